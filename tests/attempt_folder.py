"""
Real attempts for the runner's tests: a git repository, an attempt's folder, a runner's process, and what it left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.forks import Forked, fork
from twistedipc.attempts.cgroup import Parents
from twistedipc.attempts.journal import JournalReader
from twistedipc.builds.attempt import Publish, ResourceLimits, Result, Spec, ToolSettings
from twistedipc.builds.egress import Network
from twistedipc.builds.isolation import NOT_ISOLATED, Isolation
from twistedipc.builds.logs import Annotation, Event, Lines, LogDigest, Notice, StepEnded, StepStarted
from twistedipc.builds.registries import Registry
from twistedipc.builds.secrets import Context
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.versions import Versioning
from twistedipc.disk.files import read_file, write_file

ROOT = Path(__file__).resolve().parent.parent
GIT = {
    "PATH": os.environ["PATH"],
    "HOME": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}

NO_GROUPS = Parents()


def until(true: Callable[[], object], what: str, seconds: float = 180.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.01)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder: what it prints."""
    done = subprocess.run(["git", "-C", str(folder), *arguments], env=GIT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def scan(folder: Path) -> tuple[int, str]:
    """
    How many records the journal in an attempt's folder has, those in gaps counted, and their digest, which is "" if
    there are gaps.
    """
    reader, digest = JournalReader(folder), LogDigest()
    try:
        while (batches := reader.read()) or reader.searching:
            for batch, _size in batches:
                digest.add(batch)
    finally:
        reader.close()
    return digest.count, digest.hexdigest()


def repository(folder: Path, files: Mapping[str, str], *, message: str = "first commit") -> str:
    """Make a git repository with one commit (or one more commit in it): the commit's id."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "--quiet", "--initial-branch=main", "--template=")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def toml(*steps: str, more: str = "") -> str:
    """A `.twistedipc.toml` with these steps, by the names s0, s1, …"""
    listed = ", ".join(f"{{name = 's{index}', run = '''{step}'''}}" for index, step in enumerate(steps))
    return f"[build]\nsteps = [{listed}]\n{more}\n"


class Attempt:
    """One attempt's folder, and the runner in it."""

    def __init__(
        self,
        base: Path,
        source: Path,
        *,
        name: str = "1-1",
        ref: str = "main",
        commit: str = "",
        publish: Publish | None = None,
        site: bool = False,
        timeout: float = 240.0,
        idle_timeout: float = 240.0,
        grace: float = 5.0,
        path: str | None = None,
        environment: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        cgroups: Parents = NO_GROUPS,
        limits: ResourceLimits | None = None,
        reserve: int = 0,
        caches: str = "",
        caches_kept: int | None = None,
        context: Context = "preview",
        tools: ToolSettings | None = None,
        settings: BuildSettings | None = None,
        protected: Sequence[str] = (),
        environment_name: str = "",
        refs: Sequence[str] = (),
        head: bool = False,
        isolation: Isolation = NOT_ISOLATED,
        network: Network | None = None,
        registries: Sequence[Registry] = (),
        versioning: Versioning | None = None,
        targets: list[dict[str, Any]] | None = None,
    ) -> None:
        self.folder = base / "attempts" / f"{name}-0123456789abcdef"
        self.folder.mkdir(parents=True)
        self.spec = Spec(
            attempt=name,
            lease="0123456789abcdef",
            build=int(name.partition("-")[0]),
            project="demo",
            repository=str(source),
            ref=ref,
            commit=commit,
            publish=publish or Publish(),
            targets=targets,
            site=site,
            parameters=dict(parameters or {}),
            environment=dict(environment or {}),
            variables=dict(variables or {}),
            path=path if path is not None else os.environ["PATH"],
            mirror=str(base / "mirrors" / "demo"),
            doorbell="../../doorbell",
            cgroups=cgroups.v2,
            cgroups_v1=cgroups.v1,
            limits=limits or ResourceLimits(),
            timeout=timeout,
            idle_timeout=idle_timeout,
            grace=grace,
            reserve=reserve,
            caches=caches,
            caches_kept=caches_kept,
            context=context,
            tools=tools,
            settings=settings or BuildSettings(),
            protected=list(protected),
            environment_name=environment_name,
            refs=list(refs),
            head=head,
            isolation=isolation,
            network=network or Network(),
            registries=list(registries),
            versioning=versioning,
        )
        write_file(self.folder / "spec.json", self.spec)
        self._process: subprocess.Popen[bytes] | Forked | None = None

    def start(
        self,
        *,
        pass_fds: tuple[int, ...] = (),
        command: Sequence[str] = (sys.executable, "-m", "twistedipc.runner"),
    ) -> subprocess.Popen[bytes]:
        """
        Start the runner as the builder does. ``command`` is another one that does the same. For tests that look at the
        process itself; all others `begin`.
        """
        with (self.folder / "runner.err").open("ab") as errors:
            self._process = subprocess.Popen(
                [*command, str(self.folder), *map(str, pass_fds)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=pass_fds,
            )
        return self._process

    def begin(self) -> Forked:
        """Start the runner in a process that has its imports done, which are half of what a short attempt costs."""
        with (self.folder / "runner.err").open("ab") as errors, open(os.devnull, "wb") as nowhere:
            self._process = fork(
                "runner", [str(self.folder)], cwd=ROOT, environment=self._environment, output=nowhere, error=errors
            )
        return self._process

    @property
    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "SECRET_OF_THE_BUILDER": "hunter2"}

    def wait(self, seconds: float = 360.0) -> Result:
        """Wait for the runner's end: its result."""
        assert self._process is not None
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError("the runner hasn't ended; its log:\n" + "\n".join(self.output())) from None
        said = (self.folder / "runner.err").read_text()
        if code != 0 or said:
            raise AssertionError(f"the runner ended with {code}: {said}")
        result = self.result
        if result is None:
            raise AssertionError("the runner left no result")
        return result

    def run(self) -> Result:
        """Run the attempt to its end: its result."""
        self.begin()
        return self.wait()

    @property
    def result(self) -> Result | None:
        """The result, if it is there."""
        return read_file(self.folder / "result.json", Result)

    def batches(self) -> list[Lines]:
        """All of the journal."""
        reader = JournalReader(self.folder)
        found: list[Lines] = []
        while more := reader.read():
            found += [batch for batch, _size in more if isinstance(batch, Lines)]
        reader.close()
        return found

    def output(self, step: int | None = None) -> list[str]:
        """The lines of output (of one step)."""
        return [
            record
            for batch in self.batches()
            for record in batch.lines
            if isinstance(record, str) and (step is None or batch.step == step)
        ]

    def events(self) -> list[Event]:
        """The events."""
        kinds = (StepStarted, StepEnded, Notice)
        return [record for batch in self.batches() for record in batch.lines if isinstance(record, kinds)]

    def annotations(self) -> list[Annotation]:
        """The remarks on the build."""
        return [record for batch in self.batches() for record in batch.lines if isinstance(record, Annotation)]

    def notices(self) -> list[str]:
        """The messages of the platform's notices."""
        return [event.message for event in self.events() if isinstance(event, Notice)]

    def ring(self) -> None:
        """Ring the runner's bell."""
        descriptor = os.open(self.folder / "control", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(descriptor, b"\n")
        finally:
            os.close(descriptor)


def alive(pid: int) -> bool:
    """Whether a process is there and isn't just waiting to be reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat[stat.rfind(")") + 2] != "Z"
