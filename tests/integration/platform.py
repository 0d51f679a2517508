"""
The whole platform for a test: both twistd services as real processes, in a folder of their own, on free ports.

    with Platform(folder) as platform:
        platform.add_project("hello", platform.repository({...}))
        build = platform.build("hello")
        assert platform.wait(build)["state"] == "succeeded"
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import databases
from tests.forks import Forked, fork
from tests.ports import free_port
from tests.storage_fixtures import new_ledger
from twistedipc.attempts import crashpoints

#: Seconds for anything that should come at once, on a machine that may be busy.
DEADLINE = 180.0

TERMINAL = {"succeeded", "failed", "cancelled", "timed_out", "lost"}


def wait_for(what: str, ask: Callable[[], Any], deadline: float = DEADLINE) -> Any:
    """Ask until there is an answer that is true; fail with ``what`` after the deadline."""
    begun = time.monotonic()
    while True:
        answer = ask()
        if answer:
            return answer
        waited = time.monotonic() - begun
        if waited > deadline:
            raise AssertionError(f"not within {deadline:.0f} s: {what}")
        # Each question costs the service some milliseconds of processor time.
        time.sleep(min(0.02 + waited / 20, 0.1))


def find(folder: Path, name: str) -> Path | None:
    """The first file of this name anywhere in a folder in which others make and remove folders meanwhile."""
    for place, _, files in os.walk(folder):  # it goes on where a folder has gone, as `Path.rglob` doesn't
        if name in files:
            return Path(place, name)
    return None


def toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """A table of strings, numbers, booleans, lists of strings or of tables, and tables as TOML."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            tables += [f"[{prefix}{key}]", toml(value, f"{prefix}{key}.")]
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for each in value:
                tables += [f"[[{prefix}{key}]]", toml(each, f"{prefix}{key}.")]
        else:
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines + tables)


def git(folder: Path, *arguments: str) -> str:
    """Run git there, as somebody."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "ada@example.org",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "ada@example.org",
    }
    done = subprocess.run(
        ["git", *arguments], cwd=folder, env=environment, check=True, capture_output=True, text=True, timeout=DEADLINE
    )
    return done.stdout.strip()


def npm_environment() -> dict[str, str]:
    """What npm needs here to reach its registry, as an operator would put it into a builder's configuration."""
    wanted = {"NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in wanted or name.lower() in ("npm_config_registry", "npm_config_cafile")
    }


class Problem(Exception):
    """The API refused a request."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status


class Service:
    """One twistd service as a process."""

    def __init__(self, name: str, config: Path) -> None:
        self.name = name
        self.config = config
        self.log = config.with_suffix(".log")
        self.program: Sequence[str] = ()  # another command that does what twistd does, started as a script
        self.crashes = False  # that it has ended by itself is expected
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def start(self, *options: str, crash_at: str = "") -> None:
        """Start it; it says in its log how it fares. With ``crash_at``, it dies at that point."""
        environment = dict(os.environ)
        if crash_at:
            environment[crashpoints.VARIABLE] = crash_at
        arguments = ["-n", "--pidfile=", self.name, "--config", str(self.config), *options]
        folder = self.config.parent
        with self.log.open("ab") as log:
            if self.program:
                self._process = subprocess.Popen(
                    [*self.program, *arguments], stdout=log, stderr=log, cwd=folder, env=environment
                )
            else:
                self._process = fork("twistd", arguments, cwd=folder, environment=environment, output=log)

    @property
    def pid(self) -> int:
        """The service's process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL."""
        self.end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        return self.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> int:
        """Send the signal, and wait for the end; the exit code."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(DEADLINE)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.wait()
            # With its cause: what failed in the test before is seen too.
            raise AssertionError(f"{self.name} did not end") from error

    def exited(self) -> int | None:
        """The service's exit code, if it has ended by itself."""
        assert self._process is not None
        return self._process.poll()

    def text(self) -> str:
        """The service's log."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""


def processes(*words: bytes) -> list[int]:
    """The processes whose command line has all these words in it. One that has ended has none."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if all(word in command for word in words):
            found.append(int(entry.name))
    return found


#: For what isn't about isolation: a sandbox is a fifth of what a small build costs.
BARE = {"kind": "none"}


class Platform:
    """An apiserver and a builder."""

    def __init__(
        self,
        folder: Path,
        *,
        path: str = "",
        slots: int = 2,
        environment: Mapping[str, str] | None = None,
        apiserver_link: Mapping[str, Any] | None = None,
        builder_link: Mapping[str, Any] | None = None,
        limits: Mapping[str, float] | None = None,
        database: str = "",
        isolation: Mapping[str, str] | None = None,
        publint: bool = False,
    ) -> None:
        self.folder = folder
        #: a folder that builds can read: what a test puts there tells them something
        self.shared = folder / "shared"
        self.shared.mkdir(exist_ok=True)
        self.port = free_port()
        self.releases_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = ""
        self._repositories = 0
        if databases.ON_POSTGRESQL and not database:
            database = databases.database_of(folder).render_as_string(hide_password=False)
        self._makes_ledger = not database
        api = {
            "data": "apiserver-data",
            "http": {"listen": f"tcp:{self.port}:interface=127.0.0.1", "local_repositories": True},
            "releases": {
                "listen": [f"tcp:{self.releases_port}:interface={host}" for host in ("127.0.0.1", "127.0.0.2")]
            },
            "link": apiserver_link or {"dial": ["unix:link.sock"]},
            "database": {"url": database},
        }
        builder = {
            "data": "builder-data",
            "name": "builder",
            "slots": slots,
            **({"path": path} if path else {}),
            "link": builder_link or {"listen": ["unix:link.sock"]},
            "isolation": {"readable": ["shared"], **(isolation or {})},
            "toolchains": {"publint": publint},
            "limits": {"grace": 1.0, **(limits or {})},
            "environment": {**npm_environment(), **(environment or {})},
        }
        (folder / "apiserver.toml").write_text(toml(api))
        (folder / "builder.toml").write_text(toml(builder))
        self.apiserver = Service("apiserver", folder / "apiserver.toml")
        self.builder = Service("buildipc", folder / "builder.toml")

    def __enter__(self) -> Self:
        if self._makes_ledger:
            # The migrations take longer than all the rest of a start; tests/test_old_ledgers.py has them.
            self.folder.joinpath("apiserver-data").mkdir(mode=0o700)
            new_ledger(self.folder / "apiserver-data")
        self.apiserver.start()
        self.builder.start()
        self.token = self.make_token("admin", "admin")
        self.linked()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.apiserver.end(signal.SIGTERM)
        self.builder.end(signal.SIGTERM)
        for attempt in (self.folder / "builder-data" / "attempts").glob("*"):
            self._kill_runner(attempt)
        self._end_tidying()
        if error is not None:
            for service in (self.apiserver, self.builder):
                sys.stderr.write(f"--- {service.name}\n{service.text()[-6000:]}\n")

    def _kill_runner(self, attempt: Path) -> None:
        """A runner outlives its builder: not the test, though."""
        for process in processes(b"twistedipc.runner", str(attempt).encode()):
            os.kill(process, signal.SIGTERM)

    def _end_tidying(self) -> None:
        """
        What tidies the caches outlives its builder too, and what that has started to copy them: they would write into a
        folder that is to be removed.
        """
        caches = str(self.folder / "builder-data" / "caches").encode()

        def ended() -> bool:
            found = processes(caches)
            for process in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return not found

        wait_for("the caches are tidied no more", ended)

    def linked(self) -> None:
        """Wait until the builder is linked."""
        wait_for("the builder is linked", lambda: (self.health() or {}).get("builders") == 1)

    def health(self) -> dict[str, Any] | None:
        """What /healthz says; None while no apiserver answers."""
        for service in (self.apiserver, self.builder):
            if service.exited() is not None and not service.crashes:
                raise AssertionError(f"{service.name} has ended:\n{service.text()[-3000:]}")
        try:
            found: dict[str, Any] = self.api("GET", "/healthz")
        except OSError:
            return None
        return found

    def make_token(self, name: str, scope: str, *more: str) -> str:
        """A token, made by the operator's command on the machine."""
        done = self.command(
            "token", "create", name, "--scope", scope, *more, "--config", str(self.apiserver.config), "--json"
        )
        assert done.returncode == 0, done.stderr
        token: str = json.loads(done.stdout)["token"]
        return token

    def command_environment(self) -> dict[str, str]:
        """The environment in which ``twistedipc`` is signed in."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "TWISTEDIPC_URL": self.url,
            **({"TWISTEDIPC_TOKEN": self.token} if self.token else {}),
        }

    def command(self, *arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``twistedipc``, signed in."""
        with (
            tempfile.TemporaryFile() as output,
            tempfile.TemporaryFile() as error,
            tempfile.TemporaryFile() as given,
        ):
            given.write((text or "").encode())
            given.seek(0)
            process = fork(
                "twistedipc",
                arguments,
                cwd=self.folder,
                environment=self.command_environment(),
                output=output,
                error=error,
                stdin=given,
            )
            try:
                code = process.wait(DEADLINE * 3)
            finally:
                process.kill()
            output.seek(0)
            error.seek(0)
            return subprocess.CompletedProcess(arguments, code, output.read().decode(), error.read().decode())

    # -- the API

    def api(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """One request; its JSON. Raises `Problem` for an error status."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
                **({"Content-Type": "application/json"} if body is not None else {}),
                **(headers or {}),
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as response:
                data = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Problem(error.code, error.read().decode()) from None
        return json.loads(data) if data else None

    def text(self, path: str) -> str:
        """One request for text."""
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            body: bytes = response.read()
            return body.decode()

    def released(self, project: str, path: str = "/") -> str:
        """A page of a project's live release."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.releases_port}{path}",
            headers={"Host": f"{project}.localhost:{self.releases_port}"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as response:
            body: bytes = response.read()
            return body.decode()

    def repository(self, files: Mapping[str, str]) -> Path:
        """A git repository with these files in its first commit."""
        self._repositories += 1
        folder = self.folder / f"repository-{self._repositories}"
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main")
        self.commit(folder, files)
        return folder

    def commit(self, repository: Path, files: Mapping[str, str], message: str = "A change") -> str:
        """Write the files and commit all there is; the commit's id."""
        for name, content in files.items():
            path = repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        git(repository, "add", "-A")
        git(repository, "commit", "-q", "--allow-empty", "-m", message)
        return git(repository, "rev-parse", "HEAD")

    def add_project(self, name: str, repository: Path, **more: Any) -> None:
        """A project."""
        self.api("POST", "/api/v1/projects", {"name": name, "repository": str(repository), **more})

    def build(self, project: str, **more: Any) -> int:
        """Ask for a build; its number."""
        number: int = self.api("POST", f"/api/v1/projects/{project}/builds", more)["id"]
        return number

    def wait(self, build: int, states: set[str] = TERMINAL) -> dict[str, Any]:
        """Wait until the build is in one of the states; the build."""
        if states == TERMINAL:
            # A log that is followed ends when its build has: each question in place of it costs the service something.
            with contextlib.suppress(OSError, HTTPException):
                self.text(f"/api/v1/builds/{build}/log?format=text&follow=1&after={10**15}")

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.api("GET", f"/api/v1/builds/{build}")
            return found if found["state"] in states else None

        found: dict[str, Any] = wait_for(f"build {build} is {states}", look, DEADLINE * 3)
        return found

    def log(self, build: int, attempt: int | None = None) -> str:
        """A log as text."""
        return self.text(
            f"/api/v1/builds/{build}/log?format=text&limit=10000" + (f"&attempt={attempt}" if attempt else "")
        )

    def succeed(self, build: int) -> dict[str, Any]:
        """Wait for the build, which must succeed with a complete log."""
        found = self.wait(build)
        assert found["state"] == "succeeded", f"{found['state']}: {found['reason']}\n{self.log(build)}"
        assert found["attempts"][-1]["complete"]
        return found
