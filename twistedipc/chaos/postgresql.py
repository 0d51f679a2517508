"""
A real PostgreSQL: in a folder of its own, on a UNIX socket and on no port, for as long as it is needed. Used by
``database`` and by tests; blocking, for threads.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds for the server to start.
DEADLINE = 180.0

#: On no port; and for as many connections as hundreds of ledgers in one process keep.
_SETTINGS = ("-c", "listen_addresses=", "-c", "max_connections=400")


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: the newest of Debian's, else where ``postgres`` is on PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if installed:
        return installed[-1].parent
    found = shutil.which("postgres")
    return Path(os.path.realpath(found)).parent if found else None


def _user() -> tuple[int, int] | None:
    """Return the user that the server runs as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
    raise RuntimeError("there is no user but root")


class PostgreSQL:
    """One server, and a database in it that is new. ``folder``: one that other users can reach."""

    def __init__(self, folder: Path) -> None:
        """There must be `programs`."""
        self.folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        found = programs()
        assert found is not None
        self._bin = found
        user = _user()
        self._as: dict[str, int] = {} if user is None else {"user": user[0], "group": user[1]}
        if user is not None:
            os.chown(folder, *user)
        self._run("initdb", "--pgdata", str(self._data), "--auth=trust", "--username=tests", "--no-sync", "-E", "UTF8")

    @property
    def url(self) -> str:
        """The database's address, as the ledger takes it."""
        return f"postgresql+psycopg://tests@/postgres?host={self.folder}"

    def admit(self, *lines: str) -> None:
        """Put lines before those of ``pg_hba.conf``, which let everybody in."""
        path = self._data / "pg_hba.conf"
        path.write_text("\n".join([*lines, path.read_text()]))
        self.sql("SELECT pg_reload_conf()")

    def start(self) -> None:
        """Start the server, and wait until it can be used."""
        with (self.folder / "log").open("ab") as log:
            # -F: nothing is written to the disk at once. What a crash of the machine would lose is lost with it.
            self._process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, "-k", self.folder, "-F", *_SETTINGS],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                extra_groups=[] if self._as else None,
                **self._as,  # type: ignore[call-overload]
            )
        end = time.monotonic() + DEADLINE
        while self._run("pg_isready", "-h", str(self.folder), "-q", check=False):
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"PostgreSQL doesn't start:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: quickly, with its connections. By SIGQUIT it ends as in a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(DEADLINE)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """All processes of the server are stopped meanwhile. Its connections stay, and the kernel takes new ones."""
        assert self._process is not None
        first = self._process.pid
        stopped: list[int] = []

        def stop(number: int) -> None:
            os.kill(number, signal.SIGSTOP)
            stopped.append(number)

        stop(first)  # before its children: it would make another in the place of one
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(status.read_text().rpartition(")")[2].split()[1]) == first:
                    stop(int(status.parent.name))
        try:
            yield
        finally:
            for number in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGCONT)

    def sql(self, statement: str) -> str:
        """Run it; what it gives, one row a line."""
        done = subprocess.run(
            [self._bin / "psql", "-h", self.folder, "-U", "tests", "-At", "-c", statement, "postgres"],
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        return done.stdout.strip()

    def _run(self, program: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [self._bin / program, *arguments],
            cwd=self.folder,
            capture_output=True,
            timeout=DEADLINE,
            extra_groups=[] if self._as else None,
            **self._as,  # type: ignore[call-overload]
        )
        if check and done.returncode != 0:
            raise RuntimeError(done.stderr.decode())
        return int(done.returncode)
