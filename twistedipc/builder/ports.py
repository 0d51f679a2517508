"""
What the builder takes from outside, as arguments: each is a type here, and the real thing in ``compose``. So a test, or
a simulation, can put the whole builder on another clock, another disk and other processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort, IReactorTime

from twistedipc.attempts.cgroup import Parents
from twistedipc.builds.attempt import (
    FoundCommit,
    LiveFiles,
    Permit,
    PermitWanted,
    Result,
    Secrets,
    SecretsWanted,
    Spec,
    StoredTool,
)
from twistedipc.builds.isolation import Isolation
from twistedipc.builds.logs import Batch
from twistedipc.builds.remotes import RemoteJob

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Journal(Protocol):
    """An attempt's journal, as `attempts.journal.JournalReader` reads it."""

    next: int  # the number after the last record that was returned
    searching: bool  # the last `read` has only looked at enough: there is more to look at now

    def ends_at(self, lines: int) -> None:
        """Note that the journal has so many records, and gets no more."""

    def seek(self, next: int, /) -> None:
        """Go on with record ``next``."""

    def read(self, limit_bytes: int, /) -> list[tuple[Batch, int]]:
        """Return the next batches, each with its size in bytes. Raises OSError."""

    def give_up(self) -> None:
        """Skip the part of the file about which the last `read` raised OSError."""

    def close(self) -> None:
        """Close the journal's files."""


class Folder(Protocol):
    """An attempt's folder, as `attempts.folder.AttemptFolder` is one; see there."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def archive(self) -> Path: ...
    def spec(self) -> Spec | None: ...
    def started(self) -> bool: ...
    def mark_start(self) -> None: ...
    def unmark_start(self) -> None: ...
    def runner_lives(self) -> bool: ...
    def has_result(self) -> bool: ...
    def result(self) -> Result | None: ...
    def write_result(self, result: Result) -> None: ...
    def conclude(self, now: int, *, cgroups: Sequence[str], give_up: bool) -> Result: ...
    def cancel(self, reason: str) -> None: ...
    def permit_wanted(self) -> PermitWanted | None: ...
    def permit(self, permit: Permit) -> None: ...
    def found_commit(self) -> FoundCommit | None: ...
    def secrets_wanted(self) -> SecretsWanted | None: ...
    def give_secrets(self, secrets: Secrets) -> None: ...
    @property
    def has_stored(self) -> bool: ...
    def give_stored(self, contents: bytes, live: LiveFiles) -> None: ...
    def journal(self) -> Journal: ...
    def remove(self, *, cgroups: Sequence[str] = ()) -> None: ...


class Disk(Protocol):
    """The builder's data folder, as `builder.data.DataFolder` is one."""

    def claim(self) -> None:
        """Make the folder, and lock it. Raises `DataFolderInUse` or OSError."""

    def release(self) -> None:
        """Unlock the folder."""

    def folders(self) -> Iterator[Folder]:
        """Yield all folders in this one that may be attempts'. Raises OSError."""

    def create(self, spec: Spec) -> Folder:
        """Write a new attempt down, durably. Blocks. Raises OSError, and nothing is left then."""

    def free(self) -> int:
        """Return how many bytes can still be written to the disk. Raises OSError."""

    def reserve(self) -> int:
        """Return how many bytes of the disk builds leave free. Raises OSError."""


class Runners(Protocol):
    """Starts runners."""

    def start(self, folder: Folder, spec: Spec, exited: Callable[[], None]) -> None:
        """
        Start the attempt's runner, once or never; ``exited`` is called when it has exited. Raises OSError, or what a
        spec raises that no process can be started with; then there is none.
        """


class Uploads(Protocol):
    """How an archive gets to the apiserver: `builder.upload.upload`, with its agent and its clock."""

    async def __call__(
        self, url: str, token: str, archive: Path, size: int, arrived: Callable[[int], None], /
    ) -> None: ...


class Remotes(Protocol):
    """Asks repositories' hosts."""

    def clear(self) -> None:
        """Remove what questions have left that weren't ended. Blocks."""

    def ask(self, job: RemoteJob) -> Deferred[bytes]:
        """
        Have a question answered: the JSON of a `RefList` or a `CommitList`. Its failure is `NoRemoteAnswer`; to cancel
        it ends what asks.
        """


class NoRemoteAnswer(Exception):
    """There is no answer, since what asks has broken. ``str()`` of it is a sentence for people."""


class InThread(Protocol):
    """Runs a function that blocks, outside the reactor's thread."""

    def __call__(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]: ...


@dataclass(frozen=True, kw_only=True)
class Outside:
    """Everything that the builder takes from outside, except its links."""

    clock: IReactorTime  # monotonic; timers
    now: Callable[[], int]  # wall clock, in milliseconds since the epoch
    in_thread: InThread
    disk: Disk
    runners: Runners
    uploads: Uploads
    remotes: Remotes
    listen_for_rings: Callable[[Callable[[str], None]], IListeningPort]
    tools: Callable[[], list[StoredTool]]  # which tools were fetched; blocks, raises OSError
    tidy: Callable[[], None]  # tidies what builds keep for the next ones, beside everything else
    find_isolation: Callable[[], Isolation]  # what keeps builds from reaching more than their own; blocks
    prepare_cgroups: Callable[[], Parents]  # where attempts have control groups; raises `NoCgroup`
