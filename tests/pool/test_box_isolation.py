"""What a script can see and reach: its folder, the programs of the machine, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pool.boxes import SECRET, Boxes, Ran, printed

LOOK_AROUND = """
import os, sys
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file:
            file.read()
        print("READ", path)
    except OSError as error:
        try:
            os.listdir(path)
            print("LISTED", path)
        except OSError:
            print(type(error).__name__)
"""
STATUS = """
fields = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Groups"):
    print(name, fields[name].strip())
"""
ENVIRONS = """
import os
for name in os.listdir("/proc"):
    if name.isdigit():
        try:
            print(name, open(f"/proc/{name}/environ", "rb").read())
        except OSError as error:
            print(name, type(error).__name__)
"""
WRITE_EVERYWHERE = """
import os
written = []
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if not (folder == "/" and name == "proc")]
    if folder.count("/") > 3:
        folders[:] = []
    try:
        with open(os.path.join(folder, "planted"), "w"):
            written.append(folder)
    except OSError:
        pass
print(sorted(written))
"""
RAISE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, result):
    print(name, "refused" if result != 0 else "ALLOWED")
tried("mount", libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None))
tried("user namespace", libc.unshare(0x10000000))
tried("mount namespace", libc.unshare(0x20000))
tried("umount", libc.umount2(b"/proc", 2))
tried("chroot", libc.chroot(b"/tmp"))
tried("hostname", libc.sethostname(b"x", 1))
tried("remount", libc.mount(None, b"/", None, 32 | 4096, None))
tried("remount usr", libc.mount(None, b"/usr", None, 32 | 4096, None))
for name, call in (("setuid", lambda: os.setuid(0)), ("mknod", lambda: os.mknod("/tmp/d", 0o60600, 0x801)),
                   ("sysctl", lambda: open("/proc/sys/user/max_user_namespaces", "w").write("100"))):
    try:
        call()
        print(name, "ALLOWED")
    except OSError:
        print(name, "refused")
"""
SUID = """
import os, shutil
shutil.copy(shutil.which("id"), "/work/id")
os.chmod("/work/id", 0o6755)
print(os.popen("/work/id -u").read())
"""


def test_it_is_not_root_and_has_no_power(boxes: Boxes) -> None:
    lines = dict(line.split(" ", 1) for line in boxes.run(STATUS).out.splitlines() if " " in line)
    assert {lines[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert lines["NoNewPrivs"] == "1"
    assert boxes.run("import os\nprint(os.getuid(), os.getgid(), os.geteuid())").out == "1000 1000 1000\n"


def test_it_can_gain_no_power(boxes: Boxes) -> None:
    assert "ALLOWED" not in boxes.run(RAISE).out
    assert boxes.run(RAISE).out.count("refused") == 11


def test_a_program_that_would_change_the_user_does_not(boxes: Boxes) -> None:
    assert boxes.run(SUID).out.strip() == "1000"


def test_every_namespace_is_its_own(boxes: Boxes) -> None:
    kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
    ran = boxes.run(f"import os\nfor kind in {kinds}: print(os.readlink('/proc/self/ns/' + kind))")
    inside = ran.out.split()
    outside = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in kinds]
    assert len(inside) == len(kinds)
    assert not set(inside) & set(outside)


def test_two_runs_share_no_namespace_and_no_folder(boxes: Boxes) -> None:
    script = """
import os, sys, time
print(os.getuid(), *(os.readlink("/proc/self/ns/" + kind) for kind in ("mnt", "net", "pid", "user", "ipc", "uts")))
for folder in ("/tmp", "/dev/shm", "/work"):
    print(os.listdir(folder))
    open(folder + "/mine", "w").close()
print("ready", flush=True)
time.sleep(1)
"""

    async def both() -> list[Ran]:
        under = []
        for _ in range(2):
            under.append(await boxes.begin(script))
            await printed(under[-1], b"ready\n")
        return [Ran(ended=await one.run.wait(), chunks=one.chunks, work=one.work) for one in under]

    first, second = (ran.out.splitlines() for ran in boxes.do(both()))
    assert not set(first[0].split()[1:]) & set(second[0].split()[1:])
    assert first[1:] == second[1:] == ["[]", "[]", "[]", "ready"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give each run a user of its own")
def test_two_runs_at_once_have_different_users_on_the_machine(boxes: Boxes) -> None:
    async def both() -> list[int]:
        under = [
            await boxes.begin("import time\nopen('/work/x', 'w').close()\nprint(1, flush=True)\ntime.sleep(1)")
            for _ in range(2)
        ]
        for one in under:
            await printed(one, b"1")
        owners = [(one.work / "x").stat().st_uid for one in under]
        assert [one.work.stat().st_mode & 0o777 for one in under] == [0o700, 0o700]
        for one in under:
            await one.run.wait()
        return owners

    owners = boxes.do(both())
    assert len(set(owners)) == 2
    assert 0 not in owners


def test_it_reads_nothing_of_the_machine(boxes: Boxes, tmp_path_factory: pytest.TempPathFactory) -> None:
    mine = tmp_path_factory.mktemp("service") / "key"
    mine.write_text(SECRET)
    mine.chmod(0o644)
    repository = Path(__file__).resolve().parents[2]
    places = [
        *("/etc/shadow", "/etc/gshadow", "/root/.ssh", "/root/.bashrc", "/home", "/var", "/run", "/sys", "/boot"),
        *("/proc/1/root/home", "/proc/1/root/etc/shadow", "/proc/1/mem", "/proc/1/environ", "/proc/kcore"),
        *(str(mine), str(mine.parent), str(repository), str(repository / "pyproject.toml"), str(boxes.jobs)),
        *("/rgrid/host", "/rgrid/bwrap"),
    ]
    ran = boxes.run(LOOK_AROUND, args=places)
    assert ran.ended.exit_code == 0
    seen = [line for line in ran.out.splitlines() if line.startswith(("READ", "LISTED"))]
    # The box's own first process may show its own root and its own (empty or passed-on) environment.
    assert [line for line in seen if "/proc/1/environ" not in line] == []
    assert SECRET not in ran.out


def test_names_of_the_machines_users_are_not_shown(boxes: Boxes) -> None:
    passwd = boxes.run("print(open('/etc/passwd').read())").out
    assert [line.split(":")[0] for line in passwd.split()] == ["root", "script", "nobody"]


def test_no_environment_of_any_process_holds_what_the_service_knows(boxes: Boxes) -> None:
    ran = boxes.run(ENVIRONS, env={"MINE": "yes"})
    assert SECRET not in ran.out
    assert "RGRID" not in ran.out
    assert len(ran.out.splitlines()) <= 3
    assert "BOXES_" not in ran.out


def test_its_environment_is_built_from_nothing(boxes: Boxes) -> None:
    ran = boxes.run("import os\nprint(sorted(os.environ))", env={"MINE": "yes"})
    expected = [
        "HOME",
        "LANG",
        "MINE",
        "PATH",
        "PWD",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONPATH",
        "PYTHONUNBUFFERED",
        "TMPDIR",
    ]
    assert set(eval(ran.out)) | {"PWD"} == set(expected)


def test_it_sees_no_other_process(boxes: Boxes) -> None:
    names = boxes.run("import os\nprint(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))").out
    assert names == "[1, 2]\n"


def test_it_writes_nowhere_but_in_its_folder_and_the_temporary_ones(boxes: Boxes) -> None:
    assert boxes.run(WRITE_EVERYWHERE).out.strip() == "['/dev/shm', '/tmp', '/work']"


def test_its_script_cannot_be_changed(boxes: Boxes) -> None:
    ran = boxes.run("import os, sys\nos.chmod(sys.argv[0], 0o777)\nopen(sys.argv[0], 'w')")
    assert ran.ended.exit_code == 1
    assert "Read-only file system" in ran.err
    assert boxes.run("import os, sys\nos.remove(sys.argv[0])").ended.exit_code == 1


def test_what_it_writes_comes_back(boxes: Boxes) -> None:
    ran = boxes.run("import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('here')\nprint(os.getcwd())")
    assert (ran.work / "a/b/c").read_text() == "here"
    assert ran.out == "/work\n"


def test_without_network_it_reaches_only_itself(boxes: Boxes) -> None:
    script = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listening.getsockname(), 2).close()
print("itself")
for address in (("1.1.1.1", 53), ("169.254.169.254", 80), ("10.0.0.1", 22)):
    try:
        socket.create_connection(address, 2)
        print("REACHED", address)
    except OSError as error:
        print(error.strerror)
try:
    socket.getaddrinfo("example.com", 80)
    print("RESOLVED")
except OSError:
    print("unresolved")
print([name for _, name in socket.if_nameindex()])
"""
    ran = boxes.run(script)
    assert ran.out.splitlines() == ["itself", *["Network is unreachable"] * 3, "unresolved", "['lo']"]


def test_it_cannot_reach_a_server_on_the_machines_loopback_or_abstract_sockets(boxes: Boxes) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0rgrid-test-abstract")
        abstract.listen()
        script = f"""
import socket
for family, address in ((socket.AF_INET, {server.getsockname()!r}), (socket.AF_UNIX, "\\0rgrid-test-abstract")):
    try:
        socket.socket(family).connect(address)
        print("REACHED")
    except OSError:
        print("refused")
"""
        assert boxes.run(script).out == "refused\nrefused\n"


def test_with_network_it_shares_the_machines(boxes: Boxes) -> None:
    script = "import os, socket\nprint(os.readlink('/proc/self/ns/net'))\nprint(len(open('/etc/hosts').read()) > 0)"
    ran = boxes.run(script, network=True)
    assert ran.out.split() == [str(Path("/proc/self/ns/net").readlink()), "True"]


def test_no_descriptor_of_the_service_is_open_in_it(boxes: Boxes) -> None:
    script = """
import os
for fd in os.listdir("/proc/self/fd"):
    try:
        print(fd, os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        pass
"""
    ran = boxes.run(script)
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    assert lines[0] == "0 /dev/null"


def test_it_cannot_end_what_holds_its_box(boxes: Boxes) -> None:
    script = """
import os, signal, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGKILL):
    os.kill(1, number)
time.sleep(0.1)
print("parent", os.getppid())
"""
    ran = boxes.run(script)
    assert (ran.ended.exit_code, ran.out) == (0, "parent 1\n")


def test_tracing_what_holds_its_box_outlives_no_time_limit(boxes: Boxes) -> None:
    ran = boxes.run("import ctypes\nctypes.CDLL(None).ptrace(16, 1, 0, 0)\nwhile True: pass", timeout_s=1.0)
    assert ran.ended.why == "timeout"


def test_an_interpreter_below_a_closed_folder_is_shown_without_opening_it(boxes: Boxes) -> None:
    closed = [one for one in boxes.engine.interpreters if any(p.startswith("/root/") for p in one.prefixes)]
    if not closed:
        pytest.skip("no interpreter lies below /root here")
    mode = Path("/root").stat().st_mode
    runtime = closed[-1].runtime
    ran = boxes.run("import json, os, sys\nprint(os.listdir('/root'), os.path.exists('/root/.ssh'))", runtime=runtime)
    assert ran.ended.exit_code == 0
    assert ran.out == "['.pyenv'] False\n"
    assert Path("/root").stat().st_mode == mode


def test_every_runtime_found_here_runs_a_script(boxes: Boxes) -> None:
    scripts = {"python": "import ssl, sqlite3\nprint('hello')", "node": "console.log('hello')", "bash": "echo hello"}
    for runtime in boxes.engine.runtimes():
        family = runtime.partition(":")[0]
        script = "print('hello')" if family == "python" else scripts[family]
        ran = boxes.run(script, runtime=runtime, memory_mb=512)
        assert ran.out == "hello\n", (runtime, ran.err)


def test_python_starts_without_the_machines_packages(boxes: Boxes) -> None:
    script = "import importlib.util\nprint(importlib.util.find_spec('pip'), importlib.util.find_spec('msgspec'))"
    assert boxes.run(script).out == "None None\n"


def test_an_input_beside_the_script_can_be_imported(boxes: Boxes) -> None:
    async def with_input() -> Ran:
        folder = boxes.jobs / "job-with-input"
        (folder / "work").mkdir(parents=True)
        (folder / "work" / "beside.py").write_text("value = 7\n")
        under = await boxes.begin("import beside\nprint(beside.value)", work_dir=folder / "work")
        return Ran(ended=await under.run.wait(), chunks=under.chunks, work=folder / "work")

    ran = boxes.do(with_input())
    assert ran.out == "7\n"
    assert [path.name for path in ran.work.iterdir()] == ["beside.py"]


OWNER = """
import asyncio, sys
from pathlib import Path
from rgrid.pool.engines.engine import Job
from rgrid.pool.engines.local import LocalEngine

async def main() -> None:
    jobs = Path(sys.argv[1])
    engine = await LocalEngine.open(jobs, warm=sys.argv[2] == "warm")
    (jobs / "work").mkdir()
    script = jobs / "script.py"
    script.write_text(
        "import os, time\\nos.fork()\\nwhile True:\\n    open('/work/beat', 'a').write('x')\\n    time.sleep(0.01)"
    )
    job = Job(job_id="kept", runtime="python", script_path=script, args=[], env={}, work_dir=jobs / "work",
              timeout_s=600, cpu=1, memory_mb=128, network=False, disk_quota_bytes=1 << 20)
    run = await engine.start(job, lambda stream, data: None)
    while not (jobs / "work" / "beat").exists():
        await asyncio.sleep(0.01)
    print("running", flush=True)
    await run.wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["cold", "warm"])
def test_the_end_of_the_service_by_sigkill_takes_the_boxes_along(
    tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    import psutil

    jobs = tmp_path_factory.mktemp("jobs")
    for folder in (jobs, jobs.parent, jobs.parent.parent):
        folder.chmod(0o711)
    with subprocess.Popen([sys.executable, "-c", OWNER, str(jobs), how], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"running\n"
        family = psutil.Process(owner.pid).children(recursive=True)
        assert len(family) >= 4
        owner.kill()
        owner.wait()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    size = (jobs / "work" / "beat").stat().st_size
    subprocess.run(["sleep", "0.1"], check=True)
    assert (jobs / "work" / "beat").stat().st_size == size
