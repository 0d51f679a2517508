"""A step's reach as rules, the kernel's program of system calls, and real steps that Landlock and a warden confine."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.attempt_folder import until
from tests.test_isolation_bubblewrap import Sandbox, running
from twistedipc.attempts import processes
from twistedipc.attempts.processes import exit_code
from twistedipc.builds.isolation import Isolation
from twistedipc.isolation import landlock, seccomp
from twistedipc.isolation.bpf import ALLOW, ASK, KILL
from twistedipc.isolation.confinement import Confinement, confinement
from twistedipc.isolation.launching import launched
from twistedipc.isolation.reach import Reach, UnsafeReach
from twistedipc.isolation.seccomp import ABSENT, MACHINES, REFUSE, UNSUPPORTED, Machine

LANDLOCK = Isolation(kind="landlock")

# -- the rules --------------------------------------------------------------------------------------------------------


def rules(reach: Reach, folders: dict[str, list[str]] | None = None) -> Confinement:
    known = folders or {}
    return confinement(reach, lambda folder: known[folder])


def test_what_a_step_reads_and_writes() -> None:
    found = rules(
        Reach(
            readable=["/usr", "/a/spec.json"],
            writable=["/a/copy", "/a/tmp"],
            elsewhere={"/etc/hosts": "/run/hosts", "/run/twistedipc/channel": "/a/channel"},
            files={"/etc/passwd": b""},
            links={"/bin": "usr/bin"},
        )
    )
    readable = {path for path, access in found.optional.items() if access == landlock.READ}
    assert readable == {"/usr", "/a/spec.json", "/run/hosts", "/a/channel", "/etc/passwd", "/proc"}
    assert found.needed == {"/a/copy": landlock.WRITE, "/a/tmp": landlock.WRITE}
    assert found.free == ["/a/copy", "/a/tmp"]
    assert found.connectable == ["/a/copy", "/a/tmp", "/a/channel"]


def test_a_gate_counts_for_a_step_with_a_network_alone() -> None:
    assert rules(Reach(network="joined", gate=4711)).gate == 4711
    assert rules(Reach(network="none", gate=4711)).gate == 0


def test_what_is_hidden_has_no_rule_and_neither_has_what_it_lies_in() -> None:
    folders = {"/opt": ["node", "data", "readme"], "/opt/data": ["tools", "keys"]}
    found = rules(Reach(readable=["/opt", "/srv"], hidden=["/opt/data/keys"], hidden_files=["/opt/readme"]), folders)
    readable = {path for path, access in found.optional.items() if access == landlock.READ}
    assert readable == {"/opt/node", "/opt/data/tools", "/srv", "/proc"}


def test_what_lies_in_something_hidden_can_be_reached_if_it_is_named() -> None:
    reach = Reach(readable=["/opt", "/opt/data/1/bin"], writable=["/opt/data/1/work"], hidden=["/opt/data"])
    found = rules(reach, {"/opt": ["data", "node"]})
    readable = {path for path, access in found.optional.items() if access == landlock.READ}
    assert readable == {"/opt/node", "/opt/data/1/bin", "/proc"}
    assert found.needed == {"/opt/data/1/work": landlock.WRITE}


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@generated(readable=st.lists(PATHS, max_size=4), hidden=st.lists(PATHS, max_size=4))
def test_no_rule_covers_what_is_hidden(readable: list[str], hidden: list[str]) -> None:
    found = confinement(Reach(readable=readable, hidden=hidden), lambda folder: ["a", "b", "c"])
    for path, access in found.optional.items():
        covers = [each for each in hidden if access == landlock.READ and f"{each}/".startswith(f"{path}/")]
        assert all(each == path and each in readable for each in covers), (path, covers)


def test_nothing_is_allowed_where_a_step_can_put_a_link() -> None:
    with pytest.raises(UnsafeReach):
        rules(Reach(writable=["/a/copy", "/a/copy/inner"]))


# -- the program ------------------------------------------------------------------------------------------------------


def verdict(on: Machine, call: int, *arguments: int, audit: int | None = None) -> int:
    """Run the program as the kernel does (Documentation/networking/filter.rst)."""
    padded = [*arguments, *([0] * (6 - len(arguments)))]
    words = {0: call, 4: on.audit if audit is None else audit}
    for place, value in enumerate(padded):
        words[16 + 8 * place] = value & 0xFFFFFFFF
        words[20 + 8 * place] = value >> 32 & 0xFFFFFFFF
    instructions = seccomp.program(on)
    at, accumulator = 0, 0
    while True:
        code, value, true, false = instructions[at]
        at += 1
        if code == 0x20:
            accumulator = words[value]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x05:
            at += value
        elif code == 0x15:
            at += true if accumulator == value else false
        elif code == 0x35:
            at += true if accumulator >= value else false
        else:
            assert code == 0x06
            return value


@pytest.fixture(params=sorted(MACHINES))
def machine(request: pytest.FixtureRequest) -> Machine:
    return MACHINES[request.param]


def of(on: Machine, name: str, *arguments: int) -> int:
    call = seccomp.number(name, on)
    assert call is not None
    return verdict(on, call, *arguments)


MINUS_ONE = (1 << 64) - 1
UNIX, INET, INET6, NETLINK, PACKET, VSOCK = 1, 2, 10, 16, 17, 40
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5
FLAGS = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK

TABLE = [
    (ALLOW, "clone", 17),  # a fork
    (ALLOW, "clone", 0x3D0F00),  # a thread
    *((REFUSE, "clone", 17 | 1 << bit) for bit in (17, 25, 26, 27, 28, 29, 30)),
    (ABSENT, "clone3", 0),
    (ALLOW, "unshare", 0x400),
    *((REFUSE, "unshare", 1 << bit) for bit in (7, 17, 25, 26, 27, 28, 29, 30)),
    (ASK, "socket", UNIX, STREAM, 0),
    (ASK, "socket", UNIX, SEQPACKET | FLAGS, 0),
    (REFUSE, "socket", UNIX, DGRAM, 0),
    (ASK, "socket", INET, STREAM | FLAGS, 0),
    (ASK, "socket", INET6, STREAM, 6),
    (ASK, "socket", INET | 7 << 32, STREAM, 0),  # the kernel looks at the lower half alone
    (REFUSE, "socket", INET, DGRAM, 0),
    (REFUSE, "socket", INET, RAW, 1),
    (REFUSE, "socket", INET, SEQPACKET, 132),
    (REFUSE, "socket", INET, STREAM, 132),  # SCTP, which Landlock doesn't hold
    (REFUSE, "socket", INET, STREAM, 262),  # and MPTCP
    (REFUSE, "socket", NETLINK, RAW, 0),
    (REFUSE, "socket", PACKET, RAW, 0),
    (REFUSE, "socket", VSOCK, STREAM, 0),
    (ALLOW, "socketpair", UNIX, STREAM | FLAGS, 0),
    (REFUSE, "socketpair", UNIX, DGRAM, 0),  # one of these can send to any address
    (ASK, "connect", 3),
    (ASK, "listen", 3),
    (ALLOW, "sendto", 3, 0, 1, 0x4000),
    (REFUSE, "sendto", 3, 0, 1, 0x20000000),  # would connect past Landlock
    (REFUSE, "sendmsg", 3, 0, 0x20004000),
    (REFUSE, "sendmmsg", 3, 0, 1, 0x20000000),
    (ALLOW, "ioctl", 0, 0x5413),
    (REFUSE, "ioctl", 0, 0x5412),
    (REFUSE, "ioctl", 0, 0x5412 | 1 << 40),
    (REFUSE, "ioctl", 3, 0x40086602),  # FS_IOC_SETFLAGS
    (ALLOW, "prlimit64", 0, 7),
    (REFUSE, "prlimit64", 1, 7),
    (ALLOW, "setpriority", 0, 0, 5),
    (REFUSE, "setpriority", 0, 4711, 5),
    (REFUSE, "setpriority", 2, 0, 5),  # all processes of the user
    (REFUSE, "sched_setaffinity", 4711),
    (ALLOW, "sched_setaffinity", 0),
    (REFUSE, "ioprio_set", 3, 0),
    (ALLOW, "personality", MINUS_ONE),
    (REFUSE, "personality", 0x0040000),
    (ASK, "fchmod", 3),
    (ASK, "fchmodat", 3),
    (ABSENT, "fchmodat2", 3),
    (ALLOW, "utimensat", 3, 0),  # of a file that is open
    (ASK, "utimensat", 3, 1 << 32),
    (ASK, "utimensat", 3, 4096),
    (REFUSE, "fchownat", 3),
    (UNSUPPORTED, "fsetxattr", 3),
    (ABSENT, "io_uring_setup"),
    *(
        (REFUSE, name)
        for name in ("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "mount", "umount2")
    ),
    *((REFUSE, name) for name in ("setns", "bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "shmget")),
    *((REFUSE, name) for name in ("open_by_handle_at", "move_mount", "open_tree", "finit_module", "kexec_load")),
    *((REFUSE, name) for name in ("inotify_add_watch", "fanotify_init", "mq_open", "chroot", "pivot_root")),
]


@pytest.mark.parametrize(("wanted", "name", "arguments"), [(each[0], each[1], each[2:]) for each in TABLE])
def test_what_becomes_of_a_call(machine: Machine, wanted: int, name: str, arguments: tuple[int, ...]) -> None:
    assert of(machine, name, *arguments) == wanted


def test_calls_that_no_table_names_are_allowed_and_newer_ones_absent(machine: Machine) -> None:
    named = {call for name in seccomp._NUMBERS if (call := seccomp.number(name, machine)) is not None}
    for call in range(seccomp.UNKNOWN):
        if call not in named:
            assert verdict(machine, call) == ALLOW
    assert verdict(machine, seccomp.UNKNOWN) == ABSENT
    assert verdict(machine, 0x40000000 | 59) == ABSENT, "x32"
    assert verdict(machine, MINUS_ONE & 0xFFFFFFFF) == ABSENT


def test_every_call_of_the_tables_has_a_rule(machine: Machine) -> None:
    for name in seccomp._NUMBERS:
        call = seccomp.number(name, machine)
        if call is not None:
            verdicts = {verdict(machine, call, *([value] * 6)) for value in (0, 1, 0x5412, MINUS_ONE, 0x20000000)}
            assert verdicts != {ALLOW}, name


def test_a_program_for_another_processor_is_killed(machine: Machine) -> None:
    for audit in (0x40000003, 0x40000028, 0):  # i386, ARM
        assert verdict(machine, 1, audit=audit) == KILL
    (other,) = (each for each in MACHINES.values() if each is not machine)
    assert verdict(machine, 1, audit=other.audit) == KILL


def test_the_program_fits_into_the_kernel(machine: Machine) -> None:
    instructions = seccomp.program(machine)
    assert len(instructions) < 4096
    assert all(each.true < 256 and each.false < 256 for each in instructions)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux' numbers")
@pytest.mark.parametrize(
    ("name", "file"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_are_the_kernels(name: str, file: str) -> None:
    if not os.path.exists(file):
        pytest.skip("the kernel's headers aren't installed")
    found = {}
    for line in Path(file).read_text().splitlines():
        words = line.split()
        if words[:1] == ["#define"] and len(words) == 3 and words[1].startswith("__NR") and words[2].isdecimal():
            found[words[1].removeprefix("__NR3264_").removeprefix("__NR_")] = int(words[2])
    for call in seccomp._NUMBERS:
        if call in found:
            assert seccomp.number(call, MACHINES[name]) == found[call], call


# -- real ones --------------------------------------------------------------------------------------------------------

needs_landlock = pytest.mark.skipif(
    landlock.version() < landlock.CONFINING_VERSION or seccomp.machine() is None,
    reason=f"needs a kernel with Landlock {landlock.CONFINING_VERSION}",
)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Not below /tmp, where some users' folders can't be passed through."""
    folder = Path(tempfile.mkdtemp(prefix="landlock-", dir=Path.home()))
    made = Sandbox(folder)
    made.isolation = LANDLOCK
    yield made
    shutil.rmtree(folder)


def python(sandbox: Sandbox, script: str, reach: Reach | None = None) -> list[str]:
    """The lines that a script of Python's prints as a step."""
    (sandbox.attempt / "work" / "script.py").write_text(script)
    return sandbox.run(f"exec {sys.executable} -I script.py", reach).splitlines()


def refusals(sandbox: Sandbox, *statements: str, reach: Reach | None = None) -> list[str]:
    """For each statement the name of the error with which the system refuses it; "" if it doesn't."""
    script = "import ctypes, errno, os, socket\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    script += "def call(result):\n    if result < 0: raise OSError(ctypes.get_errno(), '')\n"
    for statement in statements:
        script += f"try:\n    {statement}\n    print()\n"
        script += "except OSError as error:\n    print(errno.errorcode.get(error.errno, error))\n"
    return python(sandbox, script, reach)


@needs_landlock
def test_a_step_has_its_own_and_the_system(sandbox: Sandbox) -> None:
    said = sandbox.run("pwd; echo written > file; cat file; mv file $TMPDIR; ls $TMPDIR; git --version; echo $HOME")
    lines = said.splitlines()
    assert lines[:3] == [str(sandbox.attempt / "work"), "written", "file"]
    assert lines[3].startswith("git version")
    assert lines[4] == str(sandbox.attempt / "home")


@needs_landlock
def test_what_isnt_its_own_cant_be_read_or_changed(sandbox: Sandbox) -> None:
    attempt, key = sandbox.attempt, sandbox.data.parent / "link.key"
    other = attempt.parent / "2-1-0123456789abcdef" / "spec.json"
    for path in (attempt / "spec.json", other, key, Path("/etc/shadow"), Path("/proc/1/environ")):
        assert "Permission denied" in sandbox.run(f"cat {path} 2>&1 || true"), path
    found = refusals(
        sandbox,
        *(f"os.listdir('{place}')" for place in ("/", "/tmp", "/dev", "/run", attempt, sandbox.data)),
        *(f"open('{place}/x', 'w')" for place in ("/", "/tmp", "/dev/shm", "/etc", "/usr", attempt, attempt / "bin")),
        f"os.link('{key}', 'mine')",
        f"os.rename('{key}', 'mine')",
        f"os.unlink('{key}')",
        f"os.truncate('{key}', 0)",
        f"os.mkdir('{attempt}/mine')",
        f"os.symlink('x', '{attempt}/mine')",
    )
    assert set(found) == {"EACCES", "EXDEV"}, found
    assert key.read_text() == "the key of the link"


@needs_landlock
def test_the_mode_and_times_of_what_isnt_its_own_cant_be_changed(sandbox: Sandbox) -> None:
    """Landlock lets both be changed, so that a step could open the builder's key to everybody."""
    key = sandbox.data.parent / "link.key"
    key.chmod(0o600)
    os.utime(key, (1, 1))
    os.symlink(key, sandbox.attempt / "work" / "link")
    found = refusals(
        sandbox,
        f"os.chmod('{key}', 0o666)",
        "os.chmod('link', 0o666)",
        f"os.chmod(os.path.relpath('{key}'), 0o666)",
        f"os.chmod('link.key', 0o666, dir_fd=os.open('{key.parent}', os.O_PATH))",
        f"os.chmod('/proc/self/fd/%d' % os.open('{key}', os.O_PATH), 0o666)",
        f"os.fchmod(os.open('{sys.executable}', os.O_RDONLY), 0o777)",
        f"call(libc.syscall(452, -100, b'{key}', 0o666, 0))" if seccomp.machine() else "pass",
        f"os.utime('{key}')",
        "os.utime('link')",
        f"os.chown('{key}', -1, 0)",
        f"os.setxattr('{key}', 'user.x', b'x')",
    )
    assert found == [*["EPERM"] * 6, "ENOSYS", *["EPERM"] * 3, "ENOTSUP" if found[-1] == "ENOTSUP" else "EOPNOTSUPP"]
    assert (key.stat().st_mode & 0o777, key.stat().st_mtime) == (0o600, 1)


@needs_landlock
def test_the_mode_and_times_of_its_own_files_are_its_own(sandbox: Sandbox) -> None:
    lines = sandbox.run(
        "echo x > a; chmod 4751 a; stat -c %a a; touch -d @12 a; stat -c %Y a; ln -s a b; touch -h -d @13 b; "
        "stat -c %Y a b; mkdir d; chmod 700 d; cd d; chmod 640 ../a; stat -c '%a %n' . ../a; cp -p ../a c; "
        "stat -c '%a %Y' c"
    ).splitlines()
    assert lines == ["751", "12", "12", "13", "700 .", "640 ../a", "640 12"]
    assert python(
        sandbox, "import os\nf = open('x', 'w'); os.fchmod(f.fileno(), 0o600); print(oct(os.stat('x').st_mode))"
    ) == ["0o100600"]


@needs_landlock
def test_no_other_process_can_be_looked_into_or_stopped(sandbox: Sandbox) -> None:
    """Neither one of the machine's, nor the step's own warden."""
    for other in (str(os.getpid()), "os.getppid()"):
        found = refusals(
            sandbox,
            *(f"open('/proc/%d/{name}' % {other}).read()" for name in ("environ", "maps")),
            f"open('/proc/%d/mem' % {other}, 'rb').read(1)",
            *(f"os.listdir('/proc/%d/{name}' % {other})" for name in ("cwd/", "root/")),
            f"os.readlink('/proc/%d/fd/0' % {other})",
            f"os.readlink('/proc/%d/exe' % {other})",
            *(f"os.kill({other}, {number})" for number in (0, int(signal.SIGTERM), int(signal.SIGKILL))),
            f"call(libc.ptrace(16, {other}, None, None))",
            f"__import__('resource').prlimit({other}, 7, (0, 0))",
            f"os.setpriority(os.PRIO_PROCESS, {other}, 19)",
            f"os.sched_setaffinity({other}, {{0}})",
        )
        assert set(found) <= {"EACCES", "EPERM"}, found


@needs_landlock
def test_the_kernels_other_doors_are_closed(sandbox: Sandbox) -> None:
    found = refusals(
        sandbox,
        "call(libc.unshare(0x10000000))",
        "call(libc.mount(b'none', b'/mnt', b'tmpfs', 0, None))",
        "call(libc.shmget(4711, 4096, 0o1600))",
        "call(libc.personality(0x0040000))",
        "call(libc.inotify_add_watch(libc.inotify_init(), b'/tmp', 0xfff))",
        "__import__('fcntl').ioctl(0, 0x5412, b'x')",
    )
    assert found == ["EPERM"] * 6
    said = sandbox.run("grep -E 'Cap(Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status")
    assert "NoNewPrivs:\t1" in said
    assert [word for word in said.split() if word.strip("0") == ""][: 4 if os.geteuid() == 0 else 2]
    if os.geteuid() == 0:
        assert said.count("0" * 16) == 4, said


@needs_landlock
def test_no_socket_of_the_machine_is_reached(sandbox: Sandbox) -> None:
    """Not by a file, by a name without one, by a port, or by datagrams; and nobody reaches the step."""
    path = str(sandbox.data.parent / "s")
    with socket.socket(socket.AF_UNIX) as file, socket.socket(socket.AF_UNIX) as abstract, socket.socket() as port:
        file.bind(path)
        abstract.bind(f"\0{path}")
        port.bind(("127.0.0.1", 0))
        for each in (file, abstract, port):
            each.listen()
        os.symlink(path, sandbox.attempt / "work" / "link")
        there = port.getsockname()
        found = refusals(
            sandbox,
            *(f"socket.socket(socket.AF_UNIX).connect({each!r})" for each in (path, "link", f"\0{path}")),
            f"socket.create_connection({there!r})",
            f"socket.socket().sendto(b'x', 0x20000000, {there!r})",
            *(f"socket.socket(socket.{each}, socket.SOCK_DGRAM)" for each in ("AF_UNIX", "AF_INET", "AF_INET6")),
            "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)",
            "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
            "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
            "socket.socket().bind(('127.0.0.1', 0))",
            "socket.socket().listen()",
            "s = socket.socket(socket.AF_UNIX); s.bind('\\0mine'); s.listen()",
        )
    assert set(found) == {"EACCES", "EPERM"}, found


@needs_landlock
def test_its_own_sockets_work(sandbox: Sandbox) -> None:
    """Blocking ones too, whose server answers later, and in threads."""
    lines = python(
        sandbox,
        """
import os, socket, threading
os.chdir(os.environ['HOME'])
server = socket.socket(socket.AF_UNIX)
server.bind('there')
server.listen(0)
def serve():
    for _ in range(20):
        made, _ = server.accept()
        made.sendall(made.recv(10)); made.close()
threads = []
def ask(number):
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(None if number % 2 else 10)
        while True:
            try:
                made.connect('there' if number % 3 else os.getcwd() + '/there')
                break
            except BlockingIOError:
                pass
        made.sendall(b'%d' % number)
        assert made.recv(10) == b'%d' % number
        assert made.recv(10) == b''
for number in range(20):
    threads.append(threading.Thread(target=ask, args=(number,)))
    threads[-1].start()
serve()
for each in threads: each.join()
try: socket.socket(socket.AF_UNIX).connect('nowhere')
except FileNotFoundError: print('absent')
one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
print(os.get_inheritable(one.fileno()), os.get_blocking(one.fileno()))
for _ in range(1000): socket.socket().close()
a, b = socket.socketpair(); a.sendall(b'x'); print(b.recv(1))
""",
    )
    assert lines == ["absent", "False False", "b'x'"]


@needs_landlock
def test_the_gate_is_all_that_it_connects_to(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gate, socket.create_server(("127.0.0.2", 0)) as other:
        port = gate.getsockname()[1]
        reach = replace(sandbox.ground.build([]), gate=port)
        elsewhere = socket.create_server(("127.0.0.2", port))
        with elsewhere:
            found = refusals(
                sandbox,
                f"socket.create_connection(('127.0.0.1', {port}))",
                f"socket.create_connection(('127.0.0.1', {port}), 5)",
                f"socket.create_connection(('127.0.0.2', {port}))",
                f"socket.create_connection(('::1', {port}))",
                f"socket.create_connection({other.getsockname()!r})",
                reach=reach,
            )
        assert found == ["", "", "EACCES", "EACCES", "EACCES"]
        assert refusals(sandbox, f"socket.create_connection(('127.0.0.1', {port}))") == ["EACCES"]


@needs_landlock
def test_a_connection_ends_when_the_step_closes_it(sandbox: Sandbox) -> None:
    """The warden, which made it, doesn't hold it open."""
    with socket.create_server(("127.0.0.1", 0)) as gate:
        gate.settimeout(10)
        port = gate.getsockname()[1]
        script = (
            f"import socket, sys\nmade = socket.create_connection(('127.0.0.1', {port}))\n"
            "made.sendall(b'x'); made.close(); print('closed', flush=True); sys.stdin.close()\n"
            "import time; time.sleep(60)\n"
        )
        (sandbox.attempt / "work" / "script.py").write_text(script)
        reach = replace(sandbox.ground.build([]), gate=port)
        child = sandbox.start([sys.executable, "-I", "script.py"], reach)
        made, _ = gate.accept()
        made.settimeout(10)
        assert (made.recv(10), made.recv(10)) == (b"x", b"")
        processes.tell_to_end(child)
        assert sandbox.end(child) == 128 + signal.SIGTERM


@needs_landlock
def test_no_environment_but_its_own_is_found(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_BUILDER", "hunter2")
    said = sandbox.run("cat /proc/[0-9]*/environ 2>/dev/null; ls /proc/self/fd; true", TOKEN="mine")
    assert "hunter2" not in said
    assert "TOKEN=mine" in said
    assert said.split("\0")[-1].split()[-4:] == ["0", "1", "2", "3"], "3 is the folder that ls reads"


@needs_landlock
def test_what_a_step_leaves_running_ends_with_it(sandbox: Sandbox) -> None:
    name = f"34{os.getpid()}"
    sandbox.run(f"setsid env -i sleep {name} </dev/null >/dev/null 2>&1 & until pgrep -f 'sleep {name}'; do :; done")
    assert not running(name)


@needs_landlock
def test_a_step_is_told_to_end_and_may_take_its_time(sandbox: Sandbox) -> None:
    child = sandbox.start(["sh", "-c", "trap 'echo ending; exit 7' TERM; echo begun; while :; do sleep 0.02; done"])
    until(lambda: "begun" in sandbox.output.read_text(), "it begins")
    processes.tell_to_end(child)
    assert sandbox.end(child) == 7
    assert sandbox.output.read_text().endswith("ending\n")


@needs_landlock
def test_the_exit_codes_are_a_shells(sandbox: Sandbox) -> None:
    assert sandbox.end(sandbox.start(["sh", "-c", "exit 3"])) == 3
    assert sandbox.end(sandbox.start(["sh", "-c", "kill -9 $$"])) == 128 + signal.SIGKILL
    assert sandbox.end(sandbox.start(["no-such-program"])) == 127
    assert "no-such-program: No such file" in sandbox.output.read_text()


@needs_landlock
def test_a_step_dies_with_the_process_that_started_it(sandbox: Sandbox) -> None:
    """And so does what has left its session."""
    name = f"56{os.getpid()}"
    starter = os.fork()
    if not starter:
        sandbox.start(["sh", "-c", f"trap '' TERM HUP; setsid sleep {name} & sleep {name}; true"])
        time.sleep(60)
        os._exit(0)
    until(lambda: running(name), "it begins")
    os.kill(starter, signal.SIGKILL)
    os.waitpid(starter, 0)
    until(lambda: not running(name), "it ends")


@needs_landlock
def test_a_step_whose_warden_is_killed_dies(sandbox: Sandbox) -> None:
    name = f"57{os.getpid()}"
    child = sandbox.start(["sh", "-c", f"trap '' TERM HUP; sleep {name}; true"])
    until(lambda: running(name), "it begins")
    processes.become_reaper()
    processes.kill(child)
    assert sandbox.end(child) == 128 + signal.SIGKILL
    processes.kill_descendants(10.0)
    assert not running(name)


@needs_landlock
def test_a_step_that_cant_be_confined_doesnt_begin(sandbox: Sandbox) -> None:
    reach = sandbox.ground.build([])
    gone = replace(reach, writable=[*reach.writable, "/nonexistent"])
    child = sandbox.start(["sh", "-c", "echo begun"], gone)
    assert sandbox.end(child) == 126
    assert "begun" not in sandbox.output.read_text()
    assert "/nonexistent" in sandbox.output.read_text()


@needs_landlock
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="takes root, to be somebody else")
def test_an_ordinary_user_can_be_confined_too() -> None:
    """Without any right that root has: by a Python of that user's, as its runner would be one."""
    with tempfile.TemporaryDirectory() as name:
        made = Sandbox(Path(name))
        package = Path(name) / "package"
        shutil.copytree(Path(landlock.__file__).parent.parent, package / "twistedipc", ignore=_compiled)
        for path in (Path(name), *Path(name).rglob("*")):
            os.chown(path, 65534, 65534)
        script = SPAWN.format(package=str(package), attempt=str(made.attempt), sites=_sites())
        user = ["/usr/bin/setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
        with made.output.open("wb") as output:
            child = os.posix_spawn(
                user[0],
                [*user, _python_for_all(), "-c", script],
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)],
            )
        code = exit_code(os.waitpid(child, 0)[1])
        said = made.output.read_text()
        assert (code, said.split()) == (0, ["65534", "refused", "made"]), said
        there = (made.attempt / "work" / "made").stat()
        assert (there.st_uid, there.st_mode & 0o777) == (65534, 0o640), "its warden answers too"


def _compiled(_folder: str, names: Sequence[str]) -> list[str]:
    return [name for name in names if name == "__pycache__"]


def _python_for_all() -> str:
    """A Python that every user can run."""
    return "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable


def _sites() -> list[str]:
    import msgspec

    return [os.path.dirname(os.path.dirname(msgspec.__file__))]


SPAWN = """
import os, sys
sys.path += [{package!r}, *{sites!r}]
from twistedipc.attempts import processes
from twistedipc.builds.isolation import Isolation
from twistedipc.isolation.launching import launched
from twistedipc.isolation.reach import Reach
attempt = {attempt!r}
reach = Reach(readable=['/usr', '/bin', '/lib', '/lib64'], writable=[attempt + '/work'])
script = 'id -u; cat ../spec.json 2>/dev/null || echo refused; touch made; chmod 640 made; ls'
landlock, environment = Isolation(kind='landlock'), {{'PATH': '/usr/bin:/bin'}}
launch = launched(landlock, ['sh', '-c', script], environment, attempt + '/work', reach)
child = processes.spawn(launch, output=1)
code = processes.exit_code(os.waitpid(child.pid, 0)[1])
processes.bury(child, 10.0)
sys.exit(code)
"""


@needs_landlock
def test_a_step_costs_little(sandbox: Sandbox) -> None:
    """A generous bound, in processor time: a build has some ten steps."""
    launch = launched(LANDLOCK, ["true"], sandbox.environment, "/", sandbox.ground.build([]))

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    began = spent()
    with sandbox.output.open("wb") as output:
        for _ in range(10):
            assert sandbox.end(processes.spawn(launch, output=output.fileno())) == 0
    assert spent() - began < 5.0


def test_errors_are_known() -> None:
    assert (REFUSE & 0xFFFF, ABSENT & 0xFFFF, UNSUPPORTED & 0xFFFF) == (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
