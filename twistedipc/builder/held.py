"""
One attempt that this builder holds: its folder, its life, and what is sent of it. Made by ``duties`` and ``service``.

How far it is, is read from the folder (``attempts/folder.py`` has the contract), so a builder that comes back knows as
much as one that never left.
"""

from __future__ import annotations

import msgspec

from twistedipc.builder.life import Life, State
from twistedipc.builder.outgoing import OutgoingLog
from twistedipc.builder.patience import Patience
from twistedipc.builder.ports import Folder
from twistedipc.builder.settings import UPLOAD_LIMIT
from twistedipc.builder.uploading import UploadState
from twistedipc.builds.attempt import ArtifactFile, FoundCommit, Packed, Result, Spec
from twistedipc.builds.messages import CheckedOut, Final
from twistedipc.builds.messages import HeldAttempt as HeldAttemptMessage
from twistedipc.ipc import CreditWindow


class Question:
    """A question of the runner's on its way to the apiserver. Times are on the monotonic clock."""

    def __init__(self) -> None:
        self.asking = False  # a call is under way
        self.again = 0.0  # when it may be asked again


class HeldAttempt:
    """One attempt's folder on this builder. Raises OSError if it can't be read."""

    def __init__(self, folder: Folder, spec: Spec, *, upload_limit: float = UPLOAD_LIMIT) -> None:
        self.folder = folder
        self.spec = spec
        self.result = folder.result()
        self.life = Life(State.found(started=folder.started(), ended=self.result is not None))
        self.log = OutgoingLog(folder.name, folder.journal())
        self.upload = UploadState(upload_limit)
        self.permit = Question()  # whether it may publish
        self.secrets = Question()  # for the secrets of the attempt
        self.contents = Question()  # which contents are stored, so that they needn't be packed
        self.conclusion = Patience()  # the tries to find out how it ended
        self.given_up = False  # these tries have failed for too long: what can't be read of it counts as lost
        self.cancel_reason = ""  # why it is to end; "" once that is written down for its runner
        self.found: FoundCommit | None = None  # the commit that it builds, as soon as a look has found it
        self.found_sent = False  # on this link
        self.final_sent: float | None = None  # when, on the monotonic clock; None: not on this link
        if self.result is not None:
            self.log.ends_at(self.result.lines)

    @property
    def name(self) -> str:
        """The folder's name, which the runner's bell carries."""
        return self.folder.name

    @property
    def known(self) -> bool:
        """False once the apiserver is done with it."""
        return self.life.about.phase is not None

    # -- its end

    def ended(self, result: Result) -> None:
        """Note the result of an attempt that has ended; or another one in its place."""
        self.result = result
        self.log.ends_at(result.lines)

    def unread(self, now: float, error: OSError) -> None:
        """Note that its end couldn't be found out at ``now``, on the monotonic clock."""
        self.given_up |= self.conclusion.exhausted(now, error)

    @property
    def to_upload(self) -> list[ArtifactFile | Packed]:
        """What is to be uploaded before its end is sent; nothing once it was."""
        if self.result is None or self.result.outcome != "succeeded" or self.upload.done:
            return []
        return [*([self.result.artifact] if self.result.artifact is not None else []), *self.result.packed]

    # -- what is sent to the apiserver

    def described(self) -> HeldAttemptMessage:
        """Return the attempt's entry in a sync. Only for an attempt that is `known`."""
        phase = self.life.about.phase
        assert phase is not None
        return HeldAttemptMessage(attempt=self.spec.attempt, lease=self.spec.lease, phase=phase, next=self.log.next)

    def final_due(self, before: float) -> bool:
        """Return whether its end is to be sent: all else was, and its end wasn't sent on this link since ``before``."""
        return (
            self.log.synced
            and self.log.all_sent
            and not self.to_upload
            and (self.final_sent is None or self.final_sent < before)
        )

    def final(self, now: int) -> Final:
        """Return its end, as it is sent at ``now`` (milliseconds since the epoch). Only for one that has ended."""
        assert self.result is not None
        resolved = self.result.resolved
        return Final(
            attempt=self.spec.attempt,
            lease=self.spec.lease,
            result=msgspec.structs.replace(self.result, resolved=0),  # the clocks of two machines can't be compared
            resolved_ago=max(0, now - resolved) if resolved else None,
        )

    def checked_out(self, now: int) -> CheckedOut:
        """Return which commit it builds, as it is sent at ``now``; see `final`. Only if it is known."""
        assert self.found is not None
        resolved = self.found.resolved
        return CheckedOut(
            attempt=self.spec.attempt,
            lease=self.spec.lease,
            found=msgspec.structs.replace(self.found, resolved=0),  # as in `final`
            resolved_ago=max(0, now - resolved) if resolved else None,
        )

    def begin(self, next: int, credit: CreditWindow) -> None:
        """On this link, send from record ``next`` on, and the end after that."""
        self.log.begin(next, credit)
        self.final_sent = None
        self.found_sent = False

    def rewind(self, next: int) -> None:
        """Send from record ``next`` on again, and the end after that. Raises `RemoteProtocolError`."""
        self.log.rewind(next)
        self.final_sent = None

    def unsync(self) -> None:
        """Note that the link is lost: nothing is under way any more."""
        self.log.unsync()
        self.final_sent = None
        self.upload.interrupted()
