"""A TCP proxy that stands between a client and the real service and breaks things: the faults of real networks."""

import contextlib
import socket
import threading
from collections.abc import Callable

Fault = Callable[[bytes], str | None]
BLOCK = 65_536
NO_WEBSOCKETS = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class CuttingProxy:
    """`fault` sees the first bytes of each connection and says what becomes of it: "refuse" answers 404, "swallow"
    passes the request on and cuts before the answer comes back, "cut" cuts after `cut_after` bytes of the answer,
    None lets it live."""

    def __init__(self, target: str, fault: Fault, cut_after: int = 2000) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._fault = fault
        self._cut_after = cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            first = client.recv(BLOCK)
            fault = self._fault(first) if first else None
            if fault == "refuse":
                client.sendall(NO_WEBSOCKETS)
                return
            with socket.create_connection(self._target) as server:
                server.sendall(first)
                threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
                self._answer(server, client, fault)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while block := source.recv(BLOCK):
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _answer(self, server: socket.socket, client: socket.socket, fault: str | None) -> None:
        passed = 0
        try:
            while block := server.recv(BLOCK):
                if fault == "swallow":
                    return
                if fault == "cut" and passed + len(block) > self._cut_after:
                    client.sendall(block[: self._cut_after - passed])
                    return
                client.sendall(block)
                passed += len(block)
        except OSError:
            return
        finally:
            # Closing alone would wait for the other thread, which reads from this socket.
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
