"""
What an attempt needs of the apiserver to publish: the permit for its runner, and the upload of what was built. Called
by ``looking`` at each look.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twistedipc.attempts.crashpoints import CrashPoint, crash_point
from twistedipc.builder.forwarding import Forwarding
from twistedipc.builder.held import HeldAttempt
from twistedipc.builder.life import State
from twistedipc.builder.link import ApiserverLink, Uplink
from twistedipc.builder.ports import Uploads
from twistedipc.builder.upload import NoArchive, UploadFailed, UploadRefused
from twistedipc.builder.workflows import Workflows
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import ArtifactFile, Packed, Permit
from twistedipc.ipc import CallFailed, CallTimedOut, NotConnected

#: Seconds for an answer to a call.
CALL_TIMEOUT = 30.0

#: Seconds until a permit is asked for again that couldn't be given yet.
PERMIT_INTERVAL = 1.0


class Publishing:
    """Asks for permits, and uploads archives."""

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, uploads: Uploads, uplink: Uplink, forwarding: Forwarding, workflows: Workflows
    ) -> None:
        self.url = ""  # where the apiserver takes uploads
        self.refused = ""  # why nothing is uploaded there; "": it is
        self._clock = clock
        self._uploads = uploads
        self._uplink = uplink
        self._forwarding = forwarding
        self._workflows = workflows

    def look_at(self, held: HeldAttempt) -> None:
        """Begin what is due. Raises OSError and `DecodeError`, of the attempt's folder."""
        link = self._uplink.link
        if link is None or not held.log.synced:
            return
        now = self._clock.seconds()
        if held.life.state is State.RUNNING:
            question = held.permit
            if not question.asking and now >= question.again and held.folder.permit_wanted() is not None:
                question.asking = True
                self._workflows.launch(self._ask_permit(held, link), f"asking for a permit for {held.name}")
        elif held.life.state is State.ENDED and (files := held.to_upload) and held.upload.due(now):
            held.upload.begins(now)
            self._workflows.launch(self._upload(held, files, link), f"uploading {held.name}")

    async def _ask_permit(self, held: HeldAttempt, link: ApiserverLink) -> None:
        try:
            wanted = held.folder.permit_wanted()
            if wanted is None:
                return
            held.permit.again = self._clock.seconds() + PERMIT_INTERVAL
            self._forwarding.forward()  # the apiserver decides by what the log tells
            want = m.WantPermit(
                attempt=held.spec.attempt,
                lease=held.spec.lease,
                package=wanted.package,
                also=wanted.also,
                target=wanted.target,
            )
            permit = await link.peer.call(want, timeout=CALL_TIMEOUT)
            assert isinstance(permit, Permit)
            # Else it is the answer to another question.
            if held.life.state is State.RUNNING and held.folder.permit_wanted() == wanted:
                held.folder.permit(permit)
        except (CallFailed, CallTimedOut, NotConnected) as error:
            self._log.info("no permit for {name} yet: {error}", name=held.name, error=error)
        finally:
            held.permit.asking = False

    async def _upload(self, held: HeldAttempt, files: Sequence[ArtifactFile | Packed], link: ApiserverLink) -> None:
        state = held.upload
        try:
            for file in files:  # one that is there already costs a question
                await self._try_upload(held, file, link)
        except CallFailed as error:
            if error.code == "refused":
                self._give_up(held, str(error))
            else:
                self._log.info("{name} can't be uploaded yet: {error}", name=held.name, error=error)
        except (CallTimedOut, NotConnected) as error:
            self._log.info("{name} can't be uploaded yet: {error}", name=held.name, error=error)
        except (NoArchive, FileNotFoundError) as error:
            self._give_up(held, str(error))
        except UploadFailed as error:
            self._log.warn("uploading {name} was broken off: {error}", name=held.name, error=error)
            still_linked = held.log.synced and self._uplink.link is link
            if still_linked and (why := state.failed(self._clock.seconds(), error)):
                self._give_up(held, why)
        else:
            crash_point(CrashPoint.BUILDER_UPLOADED)
            state.done = True
            self._forwarding.forward()
        finally:
            state.under_way = False

    async def _try_upload(self, held: HeldAttempt, file: ArtifactFile | Packed, link: ApiserverLink) -> None:
        want = m.WantUpload(
            attempt=held.spec.attempt,
            lease=held.spec.lease,
            size=file.size,
            sha256=file.sha256,
            trouble=held.upload.trouble,
            target=file.target if isinstance(file, Packed) else "",
            position=file.position if isinstance(file, Packed) else 0,
        )
        if self.refused:
            raise UploadRefused(self.refused)
        grant = await link.peer.call(want, timeout=CALL_TIMEOUT)
        assert isinstance(grant, m.UploadGrant)
        if not grant.complete:
            url = self.url.rstrip("/") + grant.path
            path = held.folder.path / file.file if isinstance(file, Packed) else held.folder.archive
            await self._uploads(url, grant.token, path, file.size, held.upload.arrived)

    def _give_up(self, held: HeldAttempt, why: str) -> None:
        """Fail the attempt: its upload would fail again however often it is tried."""
        assert held.result is not None
        reason = f"what was built can't be stored: {why}"
        held.ended(msgspec.structs.replace(held.result, outcome="failed", reason=reason, artifact=None, packed=[]))
        self._forwarding.forward()
