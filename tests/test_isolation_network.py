"""
The network of an attempt: the gate and the engines, with real namespaces and real programs, as root and as an ordinary
user. What must not be reached is on addresses of this machine, or of a namespace that a test makes for itself.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

STEPS = Path(__file__).with_name("network_steps.py")
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]

#: Where /dev/net/tun is for root alone, an ordinary user is given one of its own.
_TUN = 'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"'

NOT_KNOWN = "it isn't one of the hosts that this project's builds may reach"
PRIVATE = "it is at a private address"
METADATA = "it is at a link-local address, or another at which clouds have metadata services"

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bubblewrap")


#: Each engine, and whether an ordinary user runs it: as root there is no pasta.
ENGINES = [("gate", True), ("pasta", True), ("slirp4netns", True), ("gate", False), ("slirp4netns", False)]

#: What is tried with a real npm on every run of the tests; the others are for `make test-long`.
OFTEN = [("gate", True), ("slirp4netns", True)]


def program_of(engine: str, ordinary: bool) -> str:
    """The engine's path, if it can be tried here."""
    if not ordinary and os.getuid() != 0:
        pytest.skip("needs root")
    program = "" if engine == "gate" else shutil.which(engine)
    if program is None:
        pytest.skip(f"needs {engine}")
    return program


def as_user(ordinary: bool) -> tuple[list[str], dict[str, str]]:
    """How a Python is started as root or as an ordinary user, and its environment."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.path.dirname(os.path.dirname(msgspec.__file__))}
    if not ordinary or os.getuid() != 0:
        return [sys.executable], environment
    python = sys.executable
    if subprocess.run([*NOBODY, "test", "-x", python]).returncode:
        python = "/usr/bin/python3"  # that of the tests lies in a home folder
    tun = ["unshare", "--mount", "sh", "-c", _TUN, "sh"] if os.path.exists("/dev/net/tun") else []
    return [*tun, *NOBODY, python], environment


def run(asked: dict[str, Any], *, ordinary: bool = False, code: int = 0) -> Any:
    """Run steps, and return what came of them."""
    python, environment = as_user(ordinary)
    done = subprocess.run(
        [*python, str(STEPS)],
        input=json.dumps(asked),
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


class _Hello(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.settimeout(10)
        asked = b""
        while data := self.request.recv(65536):
            asked += data
        self.request.sendall(b"you said " + asked)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@contextmanager
def serving(address: str, port: int = 0) -> Iterator[int]:
    """Serve at an address, and give the port."""
    with _Server((address, port), _Hello) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def own_address() -> str:
    """An address of this machine in its network; its loopback where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        try:
            made.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(made.getsockname()[0])


@pytest.mark.parametrize(("engine", "ordinary"), ENGINES)
def test_a_step_reaches_what_is_allowed_and_nothing_of_this_machine(engine: str, ordinary: bool) -> None:
    program = program_of(engine, ordinary)
    own = own_address()
    with serving("0.0.0.0") as port, serving("127.0.0.1") as allowed, serving("127.0.0.1") as api:
        tries = [
            ["127.0.0.1", allowed, "hello"],
            ["localhost", allowed, "hello"],
            ["127.0.0.1", port, "x"],
            [own, port, "x"],
            ["::1", port, "x"],
            ["127.0.0.1", api, "x"],
        ]
        rules = [f"127.0.0.1:{allowed}", f"127.0.0.1:{api}"]
        said = run(
            {
                "engine": engine,
                "program": program,
                "ours": [["", api]],
                "steps": [
                    {"reach": {"open": False, "allowed": rules}, "tries": tries},
                    {"reach": {"open": True, "allowed": rules}, "tries": tries},
                ],
            },
            ordinary=ordinary,
        )
    for step in said["steps"]:
        first, second, *others = step["output"]
        assert first == second == "you said hello"
        assert not any("you said" in other for other in others)
    assert ["127.0.0.1", api, "it is the platform itself"] in said["steps"][1]["refused"]
    reached = [each for each in said["egress"]["contacts"] if not each.get("why")]
    assert [(each["host"], each["port"], each["received"]) for each in reached] == [("127.0.0.1", allowed, 4 * 14)]
    assert [each["step"] for each in reached] == ["step 0"]


@pytest.mark.parametrize("engine", ["gate", "slirp4netns"])
def test_private_addresses_and_metadata_services_are_not_reached(engine: str) -> None:
    """This machine is a namespace that has them all, so that nothing is sent anywhere else."""
    program = program_of(engine, ordinary=False)
    addresses = ["169.254.169.254", "10.9.8.7", "172.20.0.1", "192.168.77.1", "100.64.1.1", "198.18.0.1"]
    tries = [[address, port, "x"] for address in addresses for port in (80, 8080)]
    asked = {
        "engine": engine,
        "program": program,
        "steps": [
            {"reach": {"open": True}, "tries": tries},
            {"reach": {"open": False}, "tries": tries},
            {"reach": {"open": True, "allowed": ["10.9.8.7"]}, "tries": [["10.9.8.7", 80, "hello"]]},
            {"reach": {"open": True, "allowed": ["169.254.169.254:80"]}, "tries": [["169.254.169.254", 80, "x"]]},
            {"reach": {"open": False, "operators": ["169.254.169.254:80"]}, "tries": [["169.254.169.254", 80, "hey"]]},
        ],
    }
    code = (
        "import ipaddress, os, sys\n"
        "from contextlib import ExitStack\n"
        "from tests.test_isolation_network import serving\n"
        "from twistedipc.isolation.network.rtnetlink import Routes\n"
        "routes = Routes(); routes.loopback_up()\n"
        "import subprocess\n"
        "with ExitStack() as stack:\n"
        "  for address in sys.argv[2].split(','):\n"
        "    routes.keep(ipaddress.ip_network(address))\n"
        "    for port in (80, 8080): stack.enter_context(serving(address, port))\n"
        "  sys.exit(subprocess.run([sys.executable, sys.argv[1]]).returncode)\n"
    )
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", code, str(STEPS), ",".join(addresses)],
        input=json.dumps(asked),
        cwd=STEPS.parent.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    opened, closed, allowed, metadata, operators = said["steps"]
    assert not any("you said" in got for got in (*opened["output"], *closed["output"], *metadata["output"]))
    assert allowed["output"] == ["you said hello"]
    assert operators["output"] == ["you said hey"]
    assert ["10.9.8.7", 8080, NOT_KNOWN] in closed["refused"]
    if engine != "gate":  # where the gate is the network, they are refused before anything could see it
        assert ["169.254.169.254", 80, METADATA] in opened["refused"]
        assert ["10.9.8.7", 8080, PRIVATE] in opened["refused"]


def test_the_proxy_says_why_it_refuses_and_names_that_are_not_known_have_no_address() -> None:
    said = run(
        {
            "engine": "gate",
            "program": "",
            "steps": [
                {
                    "reach": {"open": False, "allowed": ["registry.example.org"]},
                    "command": [
                        sys.executable,
                        "-c",
                        "import os, socket\n"
                        "proxy = os.environ['HTTPS_PROXY'].rpartition('/')[2].split(':')\n"
                        "targets = 'CONNECT tracker.example.org:443', 'GET http://localhost:1/', 'GET /'\n"
                        "for asked in [f'{target} HTTP/1.1' for target in targets]:\n"
                        "  with socket.create_connection(proxy, timeout=10) as made:\n"
                        "    made.sendall(asked.encode() + b'\\r\\n\\r\\n')\n"
                        "    print(made.recv(4096).decode())\n"
                        "try: socket.getaddrinfo('tracker.example.org', 443)\n"
                        "except OSError as error: print(error.args[0] == socket.EAI_NONAME)\n",
                    ],
                }
            ],
        }
    )
    (step,) = said["steps"]
    assert f"the network refused tracker.example.org:443: {NOT_KNOWN}" in step["output"]
    assert "HTTP/1.1 403 Forbidden" in step["output"]
    assert "HTTP/1.1 400 Bad Request" in step["output"]
    assert step["output"].endswith("True\n")
    assert step["refused"] == [
        ["tracker.example.org", 443, NOT_KNOWN],
        ["localhost", 1, NOT_KNOWN],
        ["tracker.example.org", 0, NOT_KNOWN],
    ]
    assert [each["why"] for each in said["egress"]["contacts"]] == [NOT_KNOWN] * 3


@pytest.mark.parametrize(
    ("engine", "ordinary"),
    [each if each in OFTEN else pytest.param(*each, marks=pytest.mark.long) for each in ENGINES],
)
def test_npm_installs_from_its_registry(engine: str, ordinary: bool) -> None:
    program = program_of(engine, ordinary)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm")
    registry = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True).stdout.strip()
    install = [
        "npm",
        "install",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=0",
        f"--registry={registry}",
        "is-odd@3.0.1",
    ]
    host = urlsplit(registry).netloc
    steps = [
        {"reach": {"open": False, "allowed": [host]}, "command": install},
        {"reach": {"open": True, "operators": [host]}, "command": install},
        {"reach": {"open": False}, "command": install},
    ]
    said = run({"engine": engine, "program": program, "steps": steps}, ordinary=ordinary)
    known, opened, refused = said["steps"]
    assert "added 2 packages" in known["output"], known["output"]
    assert "added 2 packages" in opened["output"], opened["output"]
    assert "npm error" in refused["output"]
    assert urlsplit(registry).hostname in {each[0] for each in refused["refused"]}
    assert any(each["host"] == urlsplit(registry).hostname for each in said["egress"]["contacts"])


@pytest.mark.parametrize(("engine", "ordinary"), ENGINES)
def test_nothing_of_it_outlives_a_runner_that_is_killed(engine: str, ordinary: bool) -> None:
    program = program_of(engine, ordinary)
    steps = [{"reach": {"open": opened}, "tries": []} for opened in (False, True)]
    said = run({"engine": engine, "program": program, "steps": steps, "die": True}, ordinary=ordinary, code=-9)
    deadline = 200
    while left := _session(said["process"]):
        deadline -= 1
        assert deadline, left
        threading.Event().wait(0.05)


def _session(process: int) -> list[str]:
    """What runs of a gate's group, or was started by its holders."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and (int(fields[2]) == process or str(process).encode() in words):
            found.append(f"{folder.name} {words}")
    return found


WATCH = """
import ctypes
libc = ctypes.CDLL(None)
found = 0
while libc.inotify_init() >= 0:
    found += 1
print(found)
"""


def test_a_step_of_an_ordinary_user_can_not_take_what_the_kernel_counts_for_all_builds_of_the_user() -> None:
    with open("/proc/sys/fs/inotify/max_user_instances", encoding="ascii") as file:
        most = int(file.read())
    if most > 10_000:
        pytest.skip("the machine has more than a process may have open files")
    python, _environment = as_user(True)
    step = {"reach": {"open": False}, "command": [python[-1], "-I", "-S", "-c", WATCH]}
    (said,) = run({"engine": "gate", "program": "", "steps": [step]}, ordinary=True)["steps"]
    assert int(said["output"]) == most // 4
