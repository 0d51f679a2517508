"""The process that asks registries, in memory: what it is asked, and what it answers. Used by both worlds."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from twistedipc.publish.asking import Answered, Question


class AskPrograms:
    """Answers each question at once, by ``answers``; without it, a question waits in ``waiting``."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.answers: Callable[[Question], Answered] | None = None
        self.waiting: list[Deferred[Answered]] = []

    def ask(self, question: Question) -> Deferred[Answered]:
        """See `server.asking.AskProgram`."""
        self.asked.append(question)
        if self.answers is not None:
            return succeed(self.answers(question))
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def kill_all(self) -> None:
        """See `server.asking.AskProgram`."""
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(Answered(reason="the process that asks the registry broke: it was killed"))
