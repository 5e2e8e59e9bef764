"""Scripts that try what a script must not be able to do. Each is one way to harm the service or its neighbours."""

FORKS = """
import os, time
print("begin", flush=True)
while True:
    try:
        os.fork()
    except OSError:
        time.sleep(0.01)
"""

FILLS_MEMORY = """
print("begin", flush=True)
held = []
while True:
    held.append(bytearray(b"x" * (1 << 20)))
"""

FILLS_DISK = """
import itertools
print("begin", flush=True)
for number in itertools.count():
    with open(f"part-{number}", "wb") as file:
        file.write(b"x" * (1 << 20))
"""

PRINTS = """
import itertools
for number in itertools.count():
    print("the same line again and again", number)
"""

IGNORES_SIGTERM = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print("begin", flush=True)
while True:
    time.sleep(1)
"""

USES_NETWORK = """
import socket, sys
for host, port in (("127.0.0.1", int(sys.argv[1])), ("1.1.1.1", 53), ("169.254.169.254", 80)):
    try:
        socket.create_connection((host, port), timeout=3)
    except OSError as error:
        print(host, type(error).__name__)
    else:
        print(host, "CONNECTED")
socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=3)
"""

LOOKS_AROUND = """
import glob, os, pathlib, sys
data, home, parent = sys.argv[1:]
def tries(name, action):
    try:
        action()
    except OSError as error:
        print(name, type(error).__name__)
    else:
        print(name, "SUCCEEDED")
tries("data folder", lambda: os.listdir(data))
tries("database", lambda: os.listdir(data + "/postgres"))
tries("objects", lambda: os.listdir(data + "/objects"))
tries("home", lambda: os.listdir(home))
tries("passwords", lambda: open("/etc/shadow").read())
tries("root", lambda: os.mkdir("/planted"))
tries("programs", lambda: open("/usr/bin/planted", "w"))
tries("own script", lambda: open(__file__, "w"))
tries("the service", lambda: os.kill(int(parent), 15))
tries("devices", lambda: open("/dev/vda", "rb").read(1))
tries("root user", lambda: os.setuid(0))
seen = [folder for folder in glob.glob("/proc/[0-9]*")]
print("processes", "SUCCEEDED" if len(seen) > 4 else "few")
inside = " ".join(pathlib.Path(folder + "/environ").read_bytes().decode(errors="replace") for folder in seen
                  if os.access(folder + "/environ", os.R_OK))
print("keys", "SUCCEEDED" if "sk_live" in inside or "RGRID_BOOTSTRAP" in inside else "none")
print("identity", "SUCCEEDED" if os.getuid() == 0 and os.path.exists("/root/.ssh") else "nobody")
print("end")
"""
