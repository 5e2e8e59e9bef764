"""Follows one execution so many times at once; a line that is a moment tells the delay of its way here."""

import asyncio
import json
import sys
import time

import msgspec
import uvloop
from websockets.asyncio.client import connect


class Frame(msgspec.Struct):
    type: str
    message: str = ""


async def main(url: str, key: str, execution_id: str, followers: int) -> None:
    address = f"ws{url[4:]}/ws/executions/{execution_id}/logs"
    decoder = msgspec.json.Decoder(Frame)
    delays: list[float] = []
    first, last, lines = 0.0, 0.0, 0

    async def follow() -> None:
        nonlocal first, last, lines
        headers = {"X-API-Key": key}
        async with connect(address, additional_headers=headers, compression=None, max_size=None) as socket:
            async for text in socket:
                at = time.time()
                frame = decoder.decode(text)
                if frame.type != "log":
                    continue
                first, last, lines = first or at, at, lines + 1
                if frame.message[:2].isdigit():
                    delays.append(at - float(frame.message))

    await asyncio.gather(*(follow() for _ in range(followers)))
    print(json.dumps({"delays": delays, "lines": lines, "seconds": last - first}))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
