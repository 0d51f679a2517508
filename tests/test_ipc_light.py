"""The library is light to use: it imports nothing of the platform's, TLS when it is used, and little of Twisted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: What the platform needs, and the library doesn't.
PLATFORM = "sqlalchemy alembic werkzeug click rich autobahn numpy yaml re2 zstandard brotli nodesemver idna".split()

#: What a link without TLS doesn't need.
TLS = "OpenSSL cryptography service_identity".split()


def run(program: str, *arguments: str) -> str:
    """What a program of Python's prints."""
    command = [sys.executable, "-c", program, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def modules(program: str) -> set[str]:
    return set(run(f"{program}\nimport sys\nprint(*sys.modules)").split())


def test_the_package_itself_imports_nothing() -> None:
    found = modules("import twistedipc")
    assert {name for name in found if name.startswith("twistedipc")} == {"twistedipc"}
    assert "twisted" not in found


@pytest.mark.parametrize("program", ["from twistedipc import dial, listen, Service", "import twistedipc.ipc"])
def test_the_library_imports_nothing_of_the_platform(program: str) -> None:
    found = modules(program)
    roots = {name.split(".")[0] for name in found}
    assert not roots & {*PLATFORM, *TLS}
    parts = {".".join(name.split(".")[:2]) for name in found if name.startswith("twistedipc.")}
    assert parts == {"twistedipc.ipc"}
    assert not found & {"twisted.internet.reactor", "twisted.internet.endpoints", "twisted.web"}


#: A whole link, in a process that can't import what it shouldn't need.
LINK = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())

from twisted.internet.task import react
from twistedipc.ipc import BadEndpoint, Interface, Request, Service, TLSFiles, dial, handles, listen

class Add(Request[int]):
    a: int
    b: int

class Calculator(Service):
    interface = Interface("calculator", Add)

    @handles(Add)
    def add(self, request, peer):
        return request.a + request.b

async def main(reactor):
    endpoint = f"unix:{sys.argv[2]}"
    listening = await listen(reactor, endpoint, Calculator())
    calculator = dial(reactor, endpoint, Calculator.interface)
    print(await calculator.call(Add(a=2, b=3)))
    await calculator.close()
    await listening.close()
    try:
        dial(reactor, "tls:localhost:1", Calculator.interface, key=b"x" * 16)
    except BadEndpoint as error:
        print(error)

react(main)
"""


def test_a_link_with_little_installed(tmp_path: Path) -> None:
    said = run(LINK, " ".join([*PLATFORM, *TLS]), str(tmp_path / "sock")).splitlines()
    assert said[0] == "5"
    assert "TLS needs packages that aren't installed (No module named" in said[1]
    assert "pip install 'twisted[tls]'" in said[1]


def test_how_much_memory_the_import_takes() -> None:
    """In proportion to what a program with Twisted has anyway: 1.25, when this was written."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the system doesn't tell")
    tell = "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    bare = int(run("import twisted.internet.protocol" + tell))
    library = int(run("import twistedipc.ipc" + tell))
    assert library < 1.35 * bare
