"""
The permits to publish that builders ask for on behalf of runners. Called by ``builders``; the rules are in
`publish.permits`, what is written down in `storage.permits`.
"""

from __future__ import annotations

from twisted.logger import Logger

from twistedipc.builds.attempt import Permit
from twistedipc.builds.messages import WantPermit
from twistedipc.ipc import CallFailed
from twistedipc.publish.permits import Decision, Granted, NotYet, Refused, Void
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.server.target_secrets import NoSecret, TargetSecrets
from twistedipc.storage import permits
from twistedipc.storage.ledger import Ledger


class Permits:
    """
    Answers builders' requests for permits.

    :param lifecycle: writes what is granted.
    """

    _log = Logger()

    def __init__(self, ledger: Ledger, secrets: TargetSecrets, lifecycle: Lifecycle) -> None:
        self._ledger = ledger
        self._secrets = secrets
        self._lifecycle = lifecycle

    def under(self, lifecycle: Lifecycle) -> Permits:
        """Return the same for a builder's link: it writes by this ``lifecycle``."""
        return Permits(self._ledger, self._secrets, lifecycle)

    async def ask(self, want: WantPermit, builder: str) -> Permit:
        """
        The answer to ``builder``, the same however often it asks. Raises `CallFailed`: ``not_yet`` if it is to ask
        again later, ``void`` if the lease isn't valid. All that the attempt's log tells must have been committed.
        """
        asked = (want.attempt, want.lease, want.target, want.packages, builder)
        # A builder that asks too early asks often: that costs no write.
        decision = await self._ledger.read(permits.look, *asked)
        secrets: dict[str, str] = {}
        if isinstance(decision, Granted):
            try:
                decision, secrets = await self._give(want, builder)
            except NoSecret as error:
                decision = Refused(str(error))
        match decision:
            case Void():
                raise CallFailed("void", "this lease is not valid any more")
            case NotYet(reason):
                raise CallFailed("not_yet", reason)
            case Refused(reason):
                self._log.info("no permit for {attempt}: {reason}", attempt=want.attempt, reason=reason)
                await self._lifecycle.refuse_permit(want, reason, builder)
                return Permit(granted=False, reason=reason)
            case Granted(store=True):
                return Permit(granted=True, packages=len(want.packages), store=True)
            case Granted():
                target = TARGETS.get(want.target)
                first = target.secrets[0].name if target is not None and target.secrets else ""
                token = secrets.pop(first, "")  # where older builders look for it
                return Permit(granted=True, packages=len(want.packages), token=token, secrets=secrets)

    async def _give(self, want: WantPermit, builder: str) -> tuple[Decision, dict[str, str]]:
        """Write the permit down. Return it with the secrets for a builder that publishes. Raises `NoSecret`."""
        offered = await self._ledger.read(permits.offered, want.attempt, want.target)
        packages = [package.name for package in want.packages]
        if offered is not None and (why := self._secrets.why_not(offered, packages)):
            raise NoSecret(why)  # before anything is built on it
        answer = await self._lifecycle.give_permit(want, builder)
        granted = answer.decision
        if not isinstance(granted, Granted) or granted.store or answer.settings is None:
            return granted, {}
        return granted, await self._secrets.open(answer.settings, answer.sealed, answer.claims, packages)
