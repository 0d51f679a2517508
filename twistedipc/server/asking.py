"""
How registries are asked about what is published: by a process of the apiserver's, with the project's token. Used by
``requesting`` and ``watching``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred

from twistedipc.publish.asking import Answered, Change, Look, Question, StageLook
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.server.target_secrets import NoSecret, TargetSecrets
from twistedipc.storage import package_requests
from twistedipc.storage.errors import NotPossible
from twistedipc.storage.ledger import Ledger


class AskProgram(Protocol):
    """The process that asks a registry. Implemented by ``taps``."""

    def ask(self, question: Question) -> Deferred[Answered]:
        """Start the process. Fires with its answer when it has ended, whatever happens."""

    def kill_all(self) -> None:
        """Kill all processes: the next start goes on."""


class Asking:
    """Asks the registries of projects."""

    def __init__(self, ledger: Ledger, secrets: TargetSecrets, program: AskProgram) -> None:
        self._ledger = ledger
        self._secrets = secrets
        self._program = program

    async def ask(
        self,
        project: str,
        target: str,
        *,
        looks: Sequence[Look] = (),
        stages: Sequence[StageLook] = (),
        change: Change | None = None,
        otp: str = "",
    ) -> Answered:
        """Ask a project's registry. What can't be asked is a reason in the answer. Raises `LedgerUnavailable`."""
        packages = [change.name] if change is not None else []
        packages += [look.name for look in looks] + [stage.name for stage in stages]
        try:
            way = await self._ledger.read(package_requests.way_to, project, target, packages)
            secrets = await self._secrets.open(way.settings, way.sealed, way.claims, packages)
        except (NotPossible, NoSecret) as error:
            return Answered(reason=str(error))
        return await self._program.ask(
            Question(
                target=target,
                settings=TARGETS.write((way.settings,))[0],
                secrets=secrets,
                looks=list(looks),
                stages=list(stages),
                change=change,
                otp=otp,
            )
        )

    def stop(self) -> None:
        """Kill what asks now."""
        self._program.kill_all()
