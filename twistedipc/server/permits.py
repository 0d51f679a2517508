"""
The permits to publish that builders ask for on behalf of runners. Called by ``builders``; the rules are in
`publish.permits`, what is written down in `storage.permits`.
"""

from __future__ import annotations

from twisted.logger import Logger

from twistedipc.builds.attempt import Permit
from twistedipc.builds.messages import WantPermit
from twistedipc.ipc import CallFailed
from twistedipc.publish.permits import Granted, NotYet, Refused, Void
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.storage import permits
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.secrets import SecretBox


class Permits:
    """
    Answers builders' requests for permits.

    :param lifecycle: writes what is granted.
    """

    _log = Logger()

    def __init__(self, ledger: Ledger, secret_box: SecretBox, lifecycle: Lifecycle) -> None:
        self._ledger = ledger
        self._secret_box = secret_box
        self._lifecycle = lifecycle

    async def ask(self, want: WantPermit, builder: str) -> Permit:
        """
        The answer to ``builder``, the same however often it asks. Raises `CallFailed`: ``not_yet`` if it is to ask
        again later, ``void`` if the lease isn't valid. All that the attempt's log tells must have been committed.
        """
        asked = (want.attempt, want.lease, want.target, want.packages, builder)
        # A builder that asks too early asks often: that costs no write.
        decision = await self._ledger.read(permits.look, *asked)
        sealed: dict[str, bytes] = {}
        if isinstance(decision, Granted):
            answer = await self._lifecycle.give_permit(want, builder)
            decision, sealed = answer.decision, answer.sealed
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
                secrets = {name: self._secret_box.open(value) for name, value in sealed.items()}
                token = secrets.pop(next(iter(secrets), ""), "")
                return Permit(granted=True, packages=len(want.packages), token=token, secrets=secrets)
