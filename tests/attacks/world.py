"""
A platform to be attacked: another project's build runs on the same builder, and the machine has what a build must not
reach.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import twistedipc
from tests.integration.platform import Platform, wait_for
from tests.ports import free_port

SCRIPTS = Path(__file__).parent / "scripts"

#: The attacks, by name.
ATTACKS = sorted(path.stem for path in SCRIPTS.glob("*.py"))

#: Attacks that something else holds off, also without walls: descriptors are closed when a step is started, and who
#: uploads shows a token of that one attempt.
HELD_ANYWAY = frozenset({"anothers_upload", "inherited"})

#: Attacks that only root could carry out.
FOR_ROOT = frozenset({"device", "kernel_settings", "mount", "control_groups"})

#: Attacks that Landlock doesn't hold off, and why. docs/security.md says so.
WITHOUT_NAMESPACES = {
    "list_of_processes": "there is one /proc for all: command lines are seen, and nothing else of other processes",
}

_IPC_CREAT, _IPC_RMID = 0o1000, 0

#: Numbers of calls for which Python has no function, and what they are asked for (keyctl(2)).
_ADD_KEY, _KEYCTL = {"x86_64": (248, 250)}.get(os.uname().machine, (217, 219))
_GET_KEYRING, _UNLINK, _OF_THE_USER = 0, 9, -4


def _mark() -> str:
    return f"mark-{secrets.token_hex(8)}"


def folder_of_a_platform() -> Path:
    """
    Return a new folder where a platform may well be: not below /tmp, where a build has a folder of its own in which it
    could make all that it wants to find.
    """
    above = Path.home() / ".cache"
    above.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="twistedipc-tests-", dir=above))


class World:
    """A running platform, what an attacker knows of it, and what there is to be had."""

    def __init__(self, isolation: str) -> None:
        self.folder = folder_of_a_platform()
        self._ending = contextlib.ExitStack()
        self._ending.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._builders_mark, self._victims_mark = _mark(), _mark()
        os.environ["TWISTEDIPC_TESTS_MARK"] = self._builders_mark
        self._ending.callback(os.environ.pop, "TWISTEDIPC_TESTS_MARK")
        self.platform = self._ending.enter_context(Platform(self.folder, slots=3, isolation={"kind": isolation}))
        self.known = self._prepared()

    def close(self) -> None:
        """End all of it."""
        self._ending.close()

    def _prepared(self) -> dict[str, Any]:
        data = self.folder / "builder-data"
        private = self._file(self.folder / "private.txt")
        temporary = self._file(Path("/tmp") / f"twistedipc-tests-{secrets.token_hex(4)}")
        memory = self._file(Path("/dev/shm") / f"twistedipc-tests-{secrets.token_hex(4)}")
        victim = self._victim(data)
        mirror = next((data / "mirrors").glob("*.git"))
        locks = data / "toolchains" / "locks"
        locks.mkdir(parents=True)
        (locks / "pnpm@9.15.0").touch()
        return {
            "configuration": str(self.platform.builder.config),
            "project": "attacker",
            "victims_project": "victim",
            "victim": str(victim),
            # Turned round, so that they are found in no process that only knows this file.
            "victims_mark": self._victims_mark[::-1],
            "builders_mark": self._builders_mark[::-1],
            "builder": self.platform.builder.pid,
            "daemon": f"daemon-{secrets.token_hex(8)}",
            "api": self.platform.port,
            "link": str(self.folder / "link.sock"),
            "machine": self._listening(socket.AF_INET, (_address_of_this_machine(), 0)),
            "abstract": self._listening(socket.AF_UNIX, f"\0twistedipc-tests-{secrets.token_hex(4)}")[1:],
            "listens": self._connecting(free_port()),
            "mirror": str(mirror),
            "caches": str(data / "caches"),
            "tools": str(data / "toolchains"),
            "data": str(data),
            "package": str(Path(twistedipc.__file__).parent),
            "private": private,
            "temporary": temporary,
            "memory": memory,
            "memory_key": self._segment(),
            "groups": _control_groups(),
            **self._key(),
        }

    def _file(self, path: Path) -> str:
        """A file that is nobody's but the machine's."""
        path.write_text("of the machine")
        self._ending.callback(path.unlink, missing_ok=True)
        return str(path)

    def _victim(self, data: Path) -> Path:
        """Begin another project's build, which runs on. Return the folder of its attempt."""
        steps = f"[build]\nsteps = ['echo hidden >secret.txt; : {self._victims_mark}; sleep 600']\n"
        toml = f"{steps}[build.environment]\nOF_THE_VICTIM = '{self._victims_mark}'\n"
        self.platform.add_project("victim", self.platform.repository({".twistedipc.toml": toml}))
        build = self.platform.build("victim")
        self._ending.callback(self.platform.api, "POST", f"/api/v1/builds/{build}/cancel")

        def begun() -> Path | None:
            found = list((data / "attempts").glob(f"{build}-1-*/work/secret.txt"))
            return found[0].parent.parent if found else None

        folder: Path = wait_for("the victim's build runs", begun)
        return folder

    def _listening(self, family: int, address: Any) -> Any:
        """Listen on the machine: whoever connects is greeted. Return the address."""
        listening = socket.socket(family)
        listening.bind(address)
        listening.listen()

        def greet() -> None:
            while True:
                try:
                    connection, _address = listening.accept()
                except OSError:
                    return
                connection.sendall(b"welcome")
                connection.close()

        def stop() -> None:
            listening.shutdown(socket.SHUT_RDWR)
            listening.close()

        threading.Thread(target=greet, daemon=True).start()
        self._ending.callback(stop)
        found = listening.getsockname()
        return found.decode() if isinstance(found, bytes) else found

    def _connecting(self, port: int) -> int:
        """Try, again and again, to reach a service on this port, as somebody on the machine's network might."""
        over = threading.Event()

        def knock() -> None:
            while not over.wait(0.2):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as one:
                    one.sendall(b"hello")

        threading.Thread(target=knock, daemon=True).start()
        self._ending.callback(over.set)
        return port

    def _segment(self) -> int:
        """Share memory by System V's key, which is returned."""
        key = int.from_bytes(os.urandom(3)) + 1
        libc = ctypes.CDLL(None)
        segment = libc.shmget(key, 4096, _IPC_CREAT | 0o600)
        assert segment != -1
        self._ending.callback(libc.shmctl, segment, _IPC_RMID, None)
        return key

    def _key(self) -> dict[str, int]:
        """Keep a key in the kernel, as programs do that sign a user in. Return its number, and its keyring's."""
        libc = ctypes.CDLL(None)
        keyring = libc.syscall(_KEYCTL, _GET_KEYRING, _OF_THE_USER, 1)
        key = libc.syscall(_ADD_KEY, b"user", _mark().encode(), b"of the machine", 14, _OF_THE_USER)
        assert key != -1
        self._ending.callback(libc.syscall, _KEYCTL, _UNLINK, key, keyring)
        return {"keyring": keyring, "key": key}

    def attack(self, name: str) -> tuple[bool, str]:
        """Have an attack built. Return whether it got anything, and the build's log."""
        files = {
            "attack.py": (SCRIPTS / f"{name}.py").read_text(),
            "facts.py": Path(__file__).with_name("facts.py").read_text(),
            "facts.json": json.dumps(self.known),
            ".twistedipc.toml": f"[build]\nsteps = ['{sys.executable} attack.py']\n",
        }
        project = name.replace("_", "-")
        self.platform.add_project(project, self.platform.repository(files), publish={"static": False})
        build = self.platform.build(project)
        self.platform.wait(build)
        log = self.platform.log(build)
        left = self._daemon_lives()
        return left or "REACHED" in log, log

    def _daemon_lives(self) -> bool:
        """Whether an attack has left something running; that is ended."""
        for process in _processes():
            with contextlib.suppress(OSError):
                if (process / "cmdline").read_bytes().startswith(self.known["daemon"].encode()):
                    os.kill(int(process.name), 9)
                    return True
        return False


def _processes() -> Iterator[Path]:
    return Path("/proc").glob("[0-9]*")


def _address_of_this_machine() -> str:
    """The address by which others reach this machine; its loopback address where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            return "127.0.0.1"
        return str(asking.getsockname()[0])


def _control_groups() -> str:
    """A folder of control groups in which this user may make some; else where they are on most machines."""
    places = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
    return str(next((place for place in places if (place / "cgroup.procs").exists()), places[-1]))
