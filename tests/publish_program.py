"""The process that publishes stored packages, in memory: what it is told, and what it answers. Used by both worlds."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from twistedipc.builds.attempt import Published
from twistedipc.builds.logs import Lines
from twistedipc.publish.stored import Delivered, Job
from twistedipc.server.jobs import Writes


class Programs:
    """The processes that run, and those that have ended."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.heard: list[Callable[[Lines], None]] = []
        self.writes: list[Writes] = []
        self.told_to_end: list[str] = []
        self.compares: Callable[[Job], Delivered] | None = None  # answers comparisons at once
        self._running: dict[str, Deferred[Delivered]] = {}

    def run(self, job: Job, heard: Callable[[Lines], None], writes: Writes) -> Deferred[Delivered]:
        """See `server.jobs.PublishProgram`."""
        self.jobs.append(job)
        self.heard.append(heard)
        self.writes.append(writes)
        if job.compare and self.compares is not None:
            return succeed(self.compares(job))
        done = self._running[job.attempt] = Deferred()
        return done

    def end(self, attempt: str) -> None:
        """See `server.jobs.PublishProgram`."""
        self.told_to_end.append(attempt)

    def kill_all(self) -> None:
        """See `server.jobs.PublishProgram`."""
        for attempt in self.running:
            self.ends(attempt, Delivered(reason="the process that publishes broke: it was killed", interrupted=True))

    @property
    def running(self) -> list[str]:
        """The attempts whose packages are being published."""
        return list(self._running)

    def say(self, *lines: str) -> None:
        """The newest process prints lines."""
        self.heard[-1](Lines(1, 5, 0, list(lines)))

    def ends(self, attempt: str, delivered: Delivered | None = None) -> None:
        """The attempt's process ends; by default all is published."""
        job = [job for job in self.jobs if job.attempt == attempt][-1]
        published = [
            Published(name=each.name, version=each.version, integrity=each.integrity, status="published",
                      registry="https://r.example/", target=job.target)
            for each in job.packages
        ]  # fmt: skip
        self._running.pop(attempt).callback(delivered or Delivered(published=published))
