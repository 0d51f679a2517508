"""
The platform under test: both services as processes, their folder, and what can be seen of them from outside. Made by
``experiment``; blocking, for threads, unless it says otherwise.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from twistedipc.attempts.liveness import lock_held, lock_owner
from twistedipc.builds.states import AttemptState
from twistedipc.chaos import oracle
from twistedipc.chaos.database import database
from twistedipc.chaos.disk import SmallDisk
from twistedipc.chaos.outcome import Memory, Options, Outcome
from twistedipc.chaos.plan import FaultKind
from twistedipc.cli.client import Client, path
from twistedipc.cli.failures import ExitCode, Failure
from twistedipc.cli.output import note
from twistedipc.cli.sample import make_repository
from twistedipc.cli.services import Service, free_port, tail
from twistedipc.cli.setup import Setup, write_setup
from twistedipc.cli.tokens import create_in_ledger
from twistedipc.web.api.schemas import Builds, Health, NewToken

#: Seconds for a second builder to be refused.
REFUSAL_DEADLINE = 20.0

#: Bytes of a service's log that are shown of a traceback.
_SHOWN = 3000

_PROC = Path("/proc")
_NAME = "chaos"

_SECOND = """\
data = {data}
name = "{name}"
[link]
dial = ["unix:join.sock"]
key = "link.key"
"""


class Platform:
    """Both services in one folder."""

    def __init__(self, options: Options, outcome: Outcome) -> None:
        """Raises `Failure` if the folder can't be used."""
        self.folder = folder = options.folder
        self._outcome = outcome
        self._services: dict[str, Service] = {}
        self._down: set[str] = set()  # services that we have ended
        self._generation = 0
        self._disks: dict[FaultKind, SmallDisk] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise Failure(ExitCode.USAGE, f"{folder} isn't empty: an experiment needs a folder of its own")
        self.starts = folder / "starts"
        self.repository = folder / "repository"
        self.port = free_port(0)
        setup = Setup(
            http_listen=f"tcp:{self.port}:interface=127.0.0.1",
            releases_port=free_port(0),
            local_repositories=True,
            builder_name=_NAME,
            key="shared",  # two builders of one name are among the faults
        )
        write_setup(folder, setup)
        # The apiserver dials the proxy, and the proxy the builder. No link is expected where the apiserver listens.
        config = folder / "apiserver.toml"
        self.database = database(options.database, folder / "apiserver")
        outcome.left_out += [kind for kind in options.kinds if kind in self.database.cannot]
        text = config.read_text("utf-8").replace('"unix:link.sock"', '"unix:proxy.sock"')
        text = text.replace("# listen = []", 'listen = ["unix:join.sock"]')
        if self.database.url:
            text = text.replace("[database]\n", f"[database]\nurl = {json.dumps(self.database.url)}\n")
        config.write_text(text, "utf-8")
        with (folder / "builder.toml").open("a", encoding="utf-8") as file:
            file.write("\n[limits]\ngrace = 1.0\n")
        for name, data in (("second", "second"), ("same-folder", "builder")):
            (folder / f"{name}.toml").write_text(_SECOND.format(data=f'"{data}"', name=_NAME), "utf-8")
        for kind, data in ((FaultKind.DISK_FULL, "builder"), (FaultKind.DATABASE_FULL, "apiserver")):
            if kind in options.kinds and kind not in outcome.left_out:
                disk = SmallDisk(folder / data)
                if disk.mount():
                    self._disks[kind] = disk
                else:
                    outcome.left_out.append(kind)
        make_repository(self.repository, oracle.files(), "The oracle")
        token = create_in_ledger(config, NewToken(name="chaos", scopes=["admin"], expires_in=7 * 86400)).token
        self.client = Client(f"http://127.0.0.1:{self.port}", token, timeout=10.0)

    @property
    def sockets(self) -> dict[str, Path]:
        """Where links are listened for: the apiserver and the builder themselves, and the proxy before the builder."""
        return {
            "apiserver": self.folder / "join.sock",
            "builder": self.folder / "link.sock",
            "proxy": self.folder / "proxy.sock",
        }

    # -- processes

    def start(self, *names: str) -> None:
        """Start these services. Doesn't block."""
        for name in names:
            plugin = "apiserver" if name == "apiserver" else "buildipc"
            self._generation += 1
            log = self.folder / f"{name}-{self._generation}.log"
            self._services[name] = Service(name, plugin, self.folder / f"{name}.toml", log)
            self._down.discard(name)

    def kill(self, *names: str) -> None:
        """Send the services SIGKILL. Doesn't block."""
        for name in names:
            self._note_death(name)
            self._down.add(name)
            self._services[name].kill()

    def stop(self, name: str) -> None:
        """Send the service SIGTERM, and wait until it has ended."""
        self._note_death(name)
        self._down.add(name)
        self._services[name].stop()

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a service a signal. Doesn't block."""
        self._services[name].signal(number)

    def supervise(self) -> None:
        """
        Start again what has ended by itself, as an operator's supervisor would; and count it. Doesn't block.
        """
        for name in list(self._services):
            if name not in self._down and self._services[name].ended():
                self._note_death(name)
                self.start(name)

    def _note_death(self, name: str) -> None:
        service = self._services[name]
        if name not in self._down and service.ended():
            self._outcome.died += 1
            note(f"{name} has ended by itself ({service.code}); the end of its log:\n{tail(service.log)[-_SHOWN:]}")

    def stop_all(self) -> None:
        """End all services, and the builds that they leave."""
        for name in list(self._services):
            self.signal(name, signal.SIGCONT)
            self.stop(name)
        for pid, _ in self.runners():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def second_builder(self, same_folder: bool, seconds: float) -> bool:
        """
        Start another builder under the same name, with a data folder of its own or in the same: whether it was
        refused. It stays for so many seconds after that, if it can.
        """
        name = "same-folder" if same_folder else "second"
        self._generation += 1
        log = self.folder / f"{name}-{self._generation}.log"
        service = Service(name, "buildipc", self.folder / f"{name}.toml", log)
        until = time.monotonic() + REFUSAL_DEADLINE
        try:
            while time.monotonic() < until:
                if same_folder:
                    if service.ended():
                        return service.code != 0 and b"another builder works in" in log.read_bytes()
                elif b"is linked already" in log.read_bytes():
                    time.sleep(seconds)
                    return not service.ended()
                time.sleep(0.05)
            return False
        finally:
            service.stop()

    def runners(self) -> list[tuple[int, str]]:
        """The runners that live: process id and attempt."""
        found = []
        for folder in sorted((self.folder / "builder" / "attempts").glob("[0-9]*")):
            pid = lock_owner(folder)
            if pid is not None and lock_held(folder):
                found.append((pid, folder.name.rsplit("-", 1)[0]))
        return found

    def processes(self, attempt: str | None = None) -> list[int]:
        """The oracle's processes that live, of this attempt or of any; and, of any, the runners."""
        marks = [b"ORACLE_STARTS=" + os.fsencode(self.starts) + b"\0"]
        if attempt is not None:
            marks.append(f"TWISTEDIPC_ATTEMPT={attempt}\0".encode())
        runner = os.fsencode(self.folder / "builder" / "attempts") + b"/"
        found = []
        for process in _PROC.glob("[0-9]*"):
            with suppress(OSError):
                environment = b"\0" + (process / "environ").read_bytes()
                ours = all(b"\0" + mark in environment for mark in marks)
                if ours or (attempt is None and runner in (process / "cmdline").read_bytes()):
                    found.append(int(process.name))
        return found

    def attempt_folders(self) -> list[str]:
        """Return the names of the attempts that the builder still has."""
        return sorted(entry.name for entry in (self.folder / "builder" / "attempts").iterdir())

    # -- disks and database

    def fill(self, kind: FaultKind) -> bool:
        """Leave no room on the disk for ``kind``."""
        return self._disks[kind].fill()

    def make_room(self, kind: FaultKind) -> bool:
        """Undo `fill`."""
        return self._disks[kind].make_room()

    def unmount(self, *, keep: bool) -> None:
        """Take the disks away, and a database server; what is on the disks stays in their folders, or doesn't."""
        self.database.close()
        for disk in self._disks.values():
            disk.unmount(keep=keep)
        self._disks.clear()

    # -- looking

    def ready(self) -> bool:
        """Return whether the services answer, are linked, and no attempt waits for its builder."""
        health = self.client.get("/healthz").decode(Health)
        if health.status != "ok" or health.builders != 1:
            return False
        return not self.client.get(path("builds"), {"state": AttemptState.DISCONNECTED.value}).decode(Builds).builds

    def remember_memory(self, *, first: bool = False) -> None:
        """Note how much memory both services have in use."""
        for name, service in self._services.items():
            size = 0
            with suppress(OSError):
                for line in (_PROC / str(service.pid) / "status").read_text().splitlines():
                    if line.startswith("VmRSS:"):
                        size = int(line.split()[1]) << 10
            memory = self._outcome.memory.setdefault(name, Memory())
            if first:
                memory.begin = size
            memory.end = size
            memory.most = max(memory.most, size)

    def count_tracebacks(self) -> None:
        """Look through the logs of all services that ever ran."""
        for log in sorted(self.folder.glob("*.log"), key=lambda log: log.stat().st_mtime):
            for text in _tracebacks(log):
                self._outcome.tracebacks += 1
                if not self._outcome.first_traceback:
                    self._outcome.first_traceback = f"{log.name}: {text}"


def _tracebacks(log: Path) -> Iterator[str]:
    """Each traceback of a log, from the line that says what failed."""
    lines = log.read_text("utf-8", "replace").splitlines()
    for number, line in enumerate(lines):
        if "Traceback (most recent call last)" in line or "Unhandled" in line:
            yield "\n".join(lines[max(0, number - 1) : number + 40])[:_SHOWN]
