"""
A set of packages, a registry in memory, a ledger, and the course between them, which can be killed at each request and
at each row. Used by the tests of the course.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from tests.npm_memory import MemoryRegistry, tarball
from tests.storage_fixtures import NOW, add_build, run
from twistedipc.builds.attempt import Package, Published
from twistedipc.builds.states import PublicationState
from twistedipc.publish.record import (
    Facts,
    MemoryRecord,
    Outcome,
    PersonNeeded,
    Progress,
    Record,
    Standing,
    Step,
)
from twistedipc.publish.targets.npm.course import Course
from twistedipc.publish.targets.npm.looking import Item, PublishFailed
from twistedipc.publish.targets.npm.package import integrity
from twistedipc.storage import publications
from twistedipc.storage.columns import attempt_name


class Killed(BaseException):
    """The process is gone."""


class LedgerRecord:
    """The rows of an attempt in a real ledger. ``around`` is called before a row is written, and once it is there."""

    def __init__(self, connection: Connection, attempt: str, around: Callable[[str], None]) -> None:
        self._connection = connection
        self._attempt = attempt
        self._around = around

    def standings(self) -> Sequence[Standing]:
        """See `Record`."""
        return [
            Standing(
                position=row.position,
                state=row.state,
                facts=Facts(
                    registry=row.registry, mode=row.mode, stage=row.stage, set_tag=row.set_tag,  # type: ignore[arg-type]
                    tag_before=row.tag_before, status=row.status, notice=row.notice,  # type: ignore[arg-type]
                ),
            )
            for row in publications.of_attempt(self._connection, self._attempt)
        ]  # fmt: skip

    def steps(self) -> Sequence[Progress]:
        """See `Record`."""
        return publications.steps_of(self._connection, self._attempt, "npm")

    def begin(self, position: int, step: Step, detail: str = "") -> None:
        """See `Record`."""
        self._around("before")
        publications.begin_step(self._connection, self._attempt, "npm", position, step, detail, NOW)
        self._around("after")

    def end(
        self,
        position: int,
        step: Step,
        outcome: Outcome,
        *,
        reached: PublicationState | None = None,
        reason: str = "",
        facts: Facts | None = None,
    ) -> None:
        """See `Record`."""
        self._around("before")
        publications.end_step(
            self._connection, self._attempt, "npm", position, step, outcome, NOW, reached=reached, reason=reason,
            facts=facts,
        )  # fmt: skip
        self._around("after")


class KilledRecord(MemoryRecord):
    """Rows that outlive the process, without a database: a hundred times as fast."""

    def __init__(self, packages: int, around: Callable[[str], None]) -> None:
        super().__init__(packages)
        self._around = around

    def begin(self, position: int, step: Step, detail: str = "") -> None:
        """See `Record`."""
        self._around("before")
        super().begin(position, step, detail)
        self._around("after")

    def end(
        self,
        position: int,
        step: Step,
        outcome: Outcome,
        *,
        reached: PublicationState | None = None,
        reason: str = "",
        facts: Facts | None = None,
    ) -> None:
        """See `Record`."""
        self._around("before")
        super().end(position, step, outcome, reached=reached, reason=reason, facts=facts)
        self._around("after")


class SetWorld:
    """
    A set of packages of which each needs the one before it, by its exact version.

    :param connection: to a ledger; None: the rows are kept without one
    :param names: of the packages; None: the prefix and numbers
    :param others: the registries of packages that go to another one, by their names
    """

    def __init__(
        self, folder: Path, connection: Connection | None, registry: MemoryRegistry, size: int, *, prefix: str = "p",
        version: str = "1.1.0", tag: str = "", names: Sequence[str] | None = None,
        others: Mapping[str, MemoryRegistry] | None = None,
    ) -> None:  # fmt: skip
        self.connection = connection
        self.registry = registry
        self.others = dict(others or {})
        self.slept = 0.0
        self.kill_at = -1  # which boundary; -1: none
        self.boundaries = 0
        self.kills = 0
        self.failures: list[str] = []  # why attempts have failed
        self.names = list(names or [f"{prefix}{number}" for number in range(size)])
        self.tarballs: list[Path] = []
        self.packages: list[Package] = []
        for number, name in enumerate(self.names):
            needs = {self.names[number - 1]: version} if number else {}
            path = tarball(folder, {"name": name, "version": version, "dependencies": needs})
            self.tarballs.append(path)
            self.packages.append(
                Package(file=path.name, name=name, version=version, integrity=integrity(path), tag=tag)
            )
        self.attempt = ""
        self._number = 0
        self._record: Record = KilledRecord(size, self.around)

    def new_attempt(self) -> None:
        """A build has stored the packages."""
        if self.connection is None:
            self._number += 1
            self.attempt = f"{self._number}-1"
            self._record = KilledRecord(len(self.packages), self.around)
            return
        build = add_build(self.connection)
        self.attempt = attempt_name(build.id, 1)
        run(self.connection, self.attempt)
        publications.add(self.connection, self.attempt, "npm", self.packages, NOW)
        for position in range(len(self.packages)):
            publications.begin_upload(self.connection, self.attempt, "npm", position, 10, NOW)
            publications.note_stored(self.connection, self.attempt, "npm", position, f"{position:064}", NOW)
        self._record = LedgerRecord(self.connection, self.attempt, self.around)

    def rows(self) -> Sequence[Standing]:
        """What is written down."""
        return self._record.standings()

    def around(self, where: str) -> None:
        """A boundary: the process may be killed here."""
        self.boundaries += 1
        if self.boundaries == self.kill_at:
            self.kills += 1
            raise Killed

    def sleep(self, seconds: float) -> None:
        """Note how long it waits."""
        self.slept += seconds

    def go(self, otp: str = "", *, staging: str = "", asks: bool = True) -> list[Published]:
        """One run of the course, as a process of its own."""
        return list(self._course(otp, staging=staging, asks=asks, reject=False))

    def rejects(self, otp: str) -> str:
        """What is staged is taken back. Return why not."""
        try:
            list(self._course(otp, staging="", asks=True, reject=True))
        except (PublishFailed, PersonNeeded) as error:
            return str(error)
        return ""

    def _course(self, otp: str, *, staging: str, asks: bool, reject: bool) -> Iterator[Published]:
        registries = [self.registry, *self.others.values()]
        for registry in registries:
            registry.around = self.around
        items = [
            Item(position, package, path, self.others.get(package.name, self.registry))
            for position, (package, path) in enumerate(zip(self.packages, self.tarballs, strict=True))
        ]
        set_tag = f"build-{self.attempt.partition('-')[0]}"
        course = Course(
            items, self._record, set_tag=set_tag, staging=staging, otp=otp, asks=asks, sleep=self.sleep,
        )  # fmt: skip
        try:
            yield from course.reject() if reject else course.run()
        finally:
            for registry in registries:
                registry.around = lambda where: None

    def failed(self, reason: str) -> None:
        """The apiserver notes that what isn't published never will be."""
        self.failures.append(reason)
        if self.connection is None:
            return
        publications.end(self.connection, self.attempt, "npm", [], reason, NOW)


__all__ = ["Killed", "PersonNeeded", "PublishFailed", "SetWorld"]
