"""
This machine: its kind, and the Node and the managers on the PATH of its builds. Used by ``choose``.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

import msgspec

from twistedipc.toolchains.packages import Kind
from twistedipc.toolchains.versions import Version, version

#: Seconds in which a Node says its version.
DEADLINE = 20.0

_CPUS = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x"}


class _Engines(msgspec.Struct):
    node: str = ""


class PackageJson(msgspec.Struct):
    """What is read of a manager's package.json."""

    name: str = ""
    version: str = ""
    engines: msgspec.Raw = msgspec.Raw(b"null")
    bin: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def node(self) -> str:
        """The range of the Node that it needs; "" is any."""
        return engines_node(self.engines)

    def commands(self) -> dict[str, str]:
        """Its commands and their files."""
        try:
            found = msgspec.json.decode(self.bin, type=dict[str, str] | str | None)
        except msgspec.DecodeError:
            return {}
        if isinstance(found, str):
            return {self.name.rpartition("/")[2]: os.path.normpath(found)}
        return {name: os.path.normpath(file) for name, file in (found or {}).items()}


def engines_node(engines: bytes | msgspec.Raw) -> str:
    """Return ``engines.node`` of what stands under ``engines``; "" if there is none, or it isn't one."""
    try:
        return msgspec.json.decode(engines, type=_Engines).node
    except msgspec.DecodeError:
        return ""  # a list, in packages of long ago


def read_package_json(path: Path) -> PackageJson | None:
    """Return a package.json; None if it can't be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=PackageJson)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


class Installed(msgspec.Struct, frozen=True):
    """A tool on the PATH."""

    version: Version
    folder: str
    node: str = ""  # the range of the Node that it needs


class Machine:
    """
    What choices depend on.

    :param kind: of which kind the machine is
    :param path: PATH of the builds' steps
    """

    def __init__(self, kind: Kind, path: str) -> None:
        self.kind = kind
        self._path = path
        self._found: dict[str, Installed | None] = {}

    def installed(self, tool: str) -> Installed | None:
        """Return the tool that is on the PATH; None if there is none, or it doesn't say its version."""
        if tool not in self._found:
            where = self.find(tool)
            look = _node if tool == "node" else _manager
            self._found[tool] = look(tool, where) if where is not None else None
        return self._found[tool]

    def find(self, tool: str) -> str | None:
        """Return the first file of that name on the PATH."""
        for folder in self._path.split(":"):
            found = os.path.join(folder or ".", tool)
            if os.path.isfile(found) and os.access(found, os.X_OK):
                return found
        return None


def _node(_tool: str, where: str) -> Installed | None:
    import subprocess  # not above: a runner stays small

    try:
        done = subprocess.run(
            [where, "--version"],
            env={"PATH": os.environ.get("PATH", os.defpath)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    found = version(done.stdout.strip().removeprefix("v"))
    return Installed(found, os.path.dirname(where)) if found is not None else None


def _manager(tool: str, where: str) -> Installed | None:
    # By the package that the command belongs to: most are scripts that take Node half a second to start. A command of
    # Corepack's belongs to another package, and isn't the manager.
    real = Path(os.path.realpath(where))
    for folder in real.parents[:3]:
        package = read_package_json(folder / "package.json")
        if package is not None:
            found = version(package.version) if package.name == tool else None
            return Installed(found, os.path.dirname(where), package.node) if found is not None else None
    return None


@cache
def this_kind() -> Kind:
    """Return the kind of this machine."""
    name = os.uname().machine.lower()
    cpu = _CPUS.get(name, name)
    if sys.platform != "linux":
        return Kind(sys.platform, cpu, "")
    return Kind("linux", cpu, "musl" if _is_musl() else "glibc", _is_modern() if cpu == "x64" else True)


def _is_musl() -> bool:
    # Where musl is installed beside glibc, the machine's programs are linked with glibc.
    glibc = [*Path("/lib").glob("*/libc.so.6"), *Path("/lib64").glob("libc.so.6")]
    return any(Path("/lib").glob("ld-musl-*")) and not glibc


def _is_modern() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            return any(line.startswith("flags") and " avx2" in line for line in file)
    except OSError:
        return True
