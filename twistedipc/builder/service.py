"""
The builder as a service: the owner of one data folder, of the attempts in it, and of the link to an apiserver.
Made by ``taps``; calls everything else in this package.

Whatever happens to an attempt is found by looking at its folder (`_look`): after a ring of the doorbell, when a
runner exits, and every `LOOK_INTERVAL` in any case. So there is one way in which things become known, whether the
runner is our child, or the child of a builder that was killed an hour ago.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent

from twistedipc.attempts.cgroup import NoCgroup, sweep
from twistedipc.attempts.crashpoints import CrashPoint, crash_after_turn, crash_point
from twistedipc.attempts.room import free_bytes, readable
from twistedipc.builder.doorbell import listen
from twistedipc.builder.forwarding import Forwarding
from twistedipc.builder.held import HeldAttempt, Phase, Settings, create_folder, remove_folder, spec_of
from twistedipc.builder.link import ApiserverLink
from twistedipc.builder.offers import sendable, why_failed, why_impossible
from twistedipc.builder.reactor import BuilderReactor
from twistedipc.builder.upload import NoArchive, UploadFailed, upload
from twistedipc.builds import messages as m
from twistedipc.builds import names
from twistedipc.builds.attempt import Permit, Result, Spec
from twistedipc.builds.logs import LogDigest
from twistedipc.disk.files import PASSING_ERRORS, read_file, write_file
from twistedipc.ipc import CallFailed, CallTimedOut, CreditWindow, NotConnected, Peer, PeerInfo

_T = TypeVar("_T")

#: Seconds between two looks at all attempts; what a lost ring costs at most.
LOOK_INTERVAL = 1.0

#: Seconds for an answer to a call.
CALL_TIMEOUT = 30.0

#: Seconds until a `Final` that wasn't acknowledged is sent again.
FINAL_INTERVAL = 30.0

#: Seconds until a permit is asked for again that couldn't be given yet.
PERMIT_INTERVAL = 1.0

#: Bytes of unacknowledged records under way for all attempts of a link together.
LINK_CREDIT = 8 << 20


class DataFolderInUse(Exception):
    """Another builder works in this data folder."""


class BuilderService(MultiService):
    """Runs attempts and forwards their journals. Its children are the links (`ipc.dial`, `ipc.listen`)."""

    _log = Logger()

    def __init__(
        self,
        reactor: BuilderReactor,
        settings: Settings,
        *,
        slots: int,
        now: Callable[[], int],
        find_cgroups: Callable[[], Path] | None = None,
        apiserver_url: str = "",
        wait: float | None = None,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._settings = settings
        self._slots = slots
        self._now = now
        self._find_cgroups = find_cgroups  # as `attempts.cgroup.find_parent`
        self._cgroups = ""  # the folder below which attempts' control groups are made; "" where there are none
        self._apiserver_url = apiserver_url
        self._wait = wait  # when told to stop, let the builds end first, for so many seconds at most; None: don't
        self._empty: Deferred[None] | None = None  # fires when nothing is held any more
        self._agent = Agent(reactor, connectTimeout=10.0)
        self._held: dict[str, HeldAttempt] = {}  # by the folder's name
        self._accepting: set[str] = set()  # attempts whose folder is being written
        self._forwarding = Forwarding()
        self._link: ApiserverLink | None = None
        self._link_credit = CreditWindow(LINK_CREDIT)
        self._credit = LINK_CREDIT
        self._uploads = ""
        self._draining = False
        self._looking = LoopingCall(self._look_around)
        self._looking.clock = reactor
        self._doorbell: IListeningPort | None = None
        self._lock: int | None = None
        self._rung: set[str] = set()
        self._next_pump: IDelayedCall | None = None  # while a journal is searched for the end of some damage
        self._workflows: set[Deferred[None]] = set()

    # -- start and stop

    def claim(self) -> None:
        """Make the data folder and lock it. Raises `DataFolderInUse` or OSError; to be called before the start."""
        for folder in (self._settings.data, self._settings.attempts, self._settings.data / "mirrors"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._settings.data / "npm-cache").mkdir(exist_ok=True)
        lock = os.open(self._settings.data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise DataFolderInUse(f"another builder works in {self._settings.data}") from error
        self._lock = lock

    def startService(self) -> None:
        """Find what is held, listen to the doorbell, link."""
        if self._lock is None:
            self.claim()
        self._look_for_cgroups()
        for held in self._find_held():
            self._hold(held)
            self._log.info("holding {name}, {phase}", name=held.name, phase=held.phase.value)
        self._doorbell = listen(self._reactor, self._settings.doorbell, self._ring)
        self._looking.start(LOOK_INTERVAL, now=True)
        super().startService()

    def _look_for_cgroups(self) -> None:
        # Only now, since twistd may have changed its user before.
        if self._find_cgroups is not None:
            try:
                parent = self._find_cgroups()
            except NoCgroup as error:
                self._log.info("builds run without control groups: {error}", error=error)
            else:
                self._cgroups = str(parent)
                sweep(parent)
                self._log.info("each build runs in a control group of its own in {parent}", parent=self._cgroups)

    async def _stop(self) -> None:
        self._draining = True
        if self._link is not None and self._link.synced:
            self._link.send(m.Status(slots=self._slots, draining=True))
        if self._wait is not None and self._held:
            await self._until_empty(self._wait)
        if self._looking.running:
            self._looking.stop()
        if self._doorbell is not None:
            await _maybe(self._doorbell.stopListening())
        await _maybe(super().stopService())
        if self._next_pump is not None:
            self._next_pump.cancel()
            self._next_pump = None
        for workflow in list(self._workflows):
            workflow.cancel()
        for workflow in list(self._workflows):
            await workflow
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _until_empty(self, seconds: float) -> None:
        """Wait until nothing is held any more; but not for ever: an apiserver that takes it over may never come."""
        self._log.info(
            "waiting for {count} attempts to end, for {seconds:.0f} s at most", count=len(self._held), seconds=seconds
        )
        self._empty = Deferred()
        try:
            await self._empty.addTimeout(seconds, self._reactor)
        except TimeoutError:
            self._empty = None
            self._log.error(
                "leaving after {seconds:.0f} s, with {names} held; what runs of them runs on, and the next builder on "
                "this folder goes on with all of them",
                seconds=seconds,
                names=", ".join(sorted(held.spec.attempt for held in self._held.values())),
            )

    def stopService(self) -> Deferred[None]:
        """
        Take no more offers and leave. The runners run on, and the next builder on this folder finds them; or, with
        ``wait``, everything that is held ends and is handed over first, if it does in time.
        """
        return Deferred.fromCoroutine(self._stop())

    def _find_held(self) -> Iterator[HeldAttempt]:
        for folder in sorted(self._settings.attempts.iterdir()):
            # One that can't be read, or isn't ours, is for a person to look at: the others go on.
            try:
                spec = None if folder.name.startswith(".") else read_file(folder / "spec.json", Spec)
                if spec is None:
                    # Half made or half deleted when a builder was killed: nothing was promised about it any more or
                    # yet.
                    self.launch(self._sweep(folder), f"removing {folder}")
                else:
                    names.attempt(spec.attempt)
                    names.lease(spec.lease)
                    yield self._held_in(folder, spec)
            except (OSError, msgspec.DecodeError, names.BadValue) as error:
                self._log.error("{folder} is left alone: {error}", folder=str(folder), error=error)

    async def _sweep(self, folder: Path) -> None:
        await self._in_thread(HeldAttempt(folder, _NO_SPEC, CreditWindow(1)).remove)

    def _held_in(self, folder: Path, spec: Spec) -> HeldAttempt:
        credit = CreditWindow(self._credit, self._link_credit)
        return HeldAttempt(folder, spec, credit, upload_limit=self._settings.upload)

    def _hold(self, held: HeldAttempt) -> None:
        self._held[held.name] = held
        self._forwarding.add(held)

    # -- the link

    def refuse(self, peer: PeerInfo) -> str | None:
        """Why this apiserver may not link now; None if it may."""
        if self._link is not None and self._link.peer.info.name != peer.name:
            return f"this builder is linked with the apiserver {self._link.peer.info.name}"
        return None

    def application(self, peer: Peer) -> ApiserverLink:
        """An apiserver has linked. The framework's application factory."""
        if self._link is not None:
            self._link.peer.close("superseded", "the apiserver has linked again")
            self._unlink()
        link = self._link = ApiserverLink(self, peer)
        self.launch(self._sync(link), "the sync")
        return link

    def lost_link(self, link: ApiserverLink, reason: str) -> None:
        """The link is gone. The builds don't notice."""
        if self._link is link:
            self._log.info("the link to {name} is lost: {reason}", name=link.peer.info.name, reason=reason)
            self._unlink()

    def _unlink(self) -> None:
        self._link = None
        for held in self._held.values():
            held.unsync()

    async def _sync(self, link: ApiserverLink) -> None:
        sync = m.Sync(
            slots=self._slots,
            draining=self._draining,
            attempts=[held.described() for held in self._held.values() if not held.forgetting],
        )
        try:
            orders = await link.peer.call(sync, timeout=CALL_TIMEOUT)
        except (CallFailed, CallTimedOut, NotConnected) as error:
            self._log.error("the sync with {name} failed: {error}", name=link.peer.info.name, error=error)
            link.peer.close("sync_failed", str(error))
            return
        assert isinstance(orders, m.Orders)
        if self._link is not link:
            return
        self._log.info("synced with {name} at {address}", name=link.peer.info.name, address=link.peer.info.address)
        link.synced = True
        try:
            self._obey(orders)
        except Exception as error:
            link.peer.close("sync_failed", str(error))  # else some attempts would wait for an order for ever
            raise
        self.look()

    def _obey(self, orders: m.Orders) -> None:
        self._uploads = self._apiserver_url or orders.uploads
        self._credit = orders.credit
        for order in orders.orders:
            held = self.held(order.attempt, order.lease)
            if held is None:
                continue
            match order.order:
                case "stop":
                    self.forget(held, kill=True)
                case "forget":
                    self.forget(held, kill=False)
                case "continue" | "go":
                    held.begin(order.next, CreditWindow(orders.credit, self._link_credit))
                    if order.cancel:
                        self.cancel(held, order.cancel)
                    if order.order == "go":
                        self.start(held)

    # -- what the apiserver says

    def held(self, attempt: str, lease: str) -> HeldAttempt | None:
        """The attempt under this lease, if it is held."""
        held = self._held.get(f"{attempt}-{lease}")
        return None if held is None or held.forgetting else held

    def attempt_held(self, attempt: str) -> HeldAttempt | None:
        """The attempt, whatever its lease."""
        return next((h for h in self._held.values() if h.spec.attempt == attempt and not h.forgetting), None)

    async def offered(self, link: ApiserverLink, offer: m.Offer) -> None:
        """
        Write the attempt down and accept it, or decline it. Whatever goes wrong is a reason to decline: an offer
        without an answer would keep the attempt from all other builders until it expires.
        """
        crash_point(CrashPoint.BUILDER_OFFER_RECEIVED)
        held: HeldAttempt | None = None
        try:
            reason = self._why_not(offer)
            if not reason:
                held = await self._write_down(offer)
        except CancelledError:
            raise  # the service stops
        except Exception as error:
            reason = why_failed(error)
            if not isinstance(error, OSError):
                self._log.failure("an offer of {attempt} failed", attempt=offer.attempt)
        if link is not self._link:
            if held is not None and self._link is not None:
                # The sync on that link went out without it, so the apiserver has taken the offer back.
                self.forget(held, kill=False)
            return  # without a link, the next sync tells that it is held
        if held is None:
            self._log.info("declined {attempt}: {reason}", attempt=offer.attempt, reason=reason)
            link.send(m.Decline(attempt=offer.attempt, lease=offer.lease, reason=sendable(reason)))
            return
        held.synced = True
        link.send(m.Accept(attempt=offer.attempt, lease=offer.lease))
        crash_after_turn(self._reactor, CrashPoint.BUILDER_ACCEPT_SENT)

    async def _write_down(self, offer: m.Offer) -> HeldAttempt:
        """Make the attempt's folder, and hold it. Raises OSError, and what a bug or a broken disk may."""
        self._accepting.add(offer.attempt)
        try:
            spec = spec_of(offer, self._settings, self._cgroups)
            folder = await self._in_thread(create_folder, self._settings, spec)
            crash_point(CrashPoint.BUILDER_SPEC_WRITTEN)
            try:
                held = self._held_in(folder, spec)
            except Exception:
                await self._in_thread(remove_folder, folder)
                raise
        finally:
            self._accepting.discard(offer.attempt)
        self._hold(held)
        return held

    def _why_not(self, offer: m.Offer) -> str:
        impossible = why_impossible(offer)
        if impossible:
            return impossible
        if self._draining:
            return "the builder is draining"
        if self.attempt_held(offer.attempt) is not None or offer.attempt in self._accepting:
            return "the builder holds this attempt already"
        active = sum(held.phase is not Phase.ENDED for held in self._held.values())
        if active + len(self._accepting) >= self._slots:
            return "all slots are taken"
        with contextlib.suppress(OSError):  # if the disk doesn't answer, writing the attempt down fails too
            free, reserve = free_bytes(self._settings.data), self._settings.reserve_bytes()
            if free < reserve:
                return f"the builder's disk is nearly full: {readable(free)} are free, {readable(reserve)} are reserved"
        return ""

    def start(self, held: HeldAttempt) -> None:
        """The acceptance is committed: spawn the runner."""
        if held.phase is not Phase.ACCEPTED:
            return
        crash_point(CrashPoint.BUILDER_GO_RECEIVED)
        try:
            held.start(self._reactor, self.look)
            crash_point(CrashPoint.BUILDER_RUNNER_SPAWNED)
            held.starting = False
        except Exception as error:
            if isinstance(error, OSError) and error.errno in PASSING_ERRORS:
                held.starting = True  # the next look tries again
                self._log.error("{name} can't be started yet: {error}", name=held.name, error=error)
                return
            self._log.failure("{name} can't be started", name=held.name)
            now = self._now()
            result = Result(
                outcome="failed",
                reason=f"the builder can't start it: {error}",
                lines=0,
                sha256=_EMPTY_SHA256,
                started=now,
                ended=now,
            )
            held.phase = Phase.RUNNING
            # If the disk doesn't take this either, it has no runner, and is found to be lost.
            with contextlib.suppress(OSError):
                write_file(held.folder / "result.json", result)
            self.look()
            return
        if self._link is not None:
            self._link.send(m.Started(attempt=held.spec.attempt, lease=held.spec.lease, time=self._now()))
            crash_after_turn(self._reactor, CrashPoint.BUILDER_STARTED_SENT)

    def cancel(self, held: HeldAttempt, reason: str) -> None:
        """Someone wants it to end."""
        if held.phase is not Phase.ENDED:
            held.cancelling = reason
            self._look_at(held)

    def acknowledged(self, held: HeldAttempt, next: int) -> None:
        """Records were committed: there is credit again."""
        crash_point(CrashPoint.BUILDER_ACK_RECEIVED)
        held.acknowledged(next)
        self.pump()

    def resend(self, held: HeldAttempt, next: int) -> None:
        """Records are missing there."""
        held.rewind(next)
        self.pump()

    def forget(self, held: HeldAttempt, *, kill: bool) -> None:
        """It is over: delete it once its runner is gone; if it lives and isn't wanted any more, kill it."""
        held.forgetting = True
        self._forwarding.remove(held)
        held.unsync()
        held.close()
        if kill:
            held.cancelling = "the apiserver has taken it back"
        self._look_at(held)

    # -- looking

    def _ring(self, name: str) -> None:
        held = self._held.get(name)
        if held is not None:
            held.may_have_more = True
            if not self._rung:
                self._reactor.callLater(0, self._answer)
            self._rung.add(name)

    def _answer(self) -> None:
        rung, self._rung = self._rung, set()
        self.pump()
        for name in rung:
            held = self._held.get(name)
            if held is not None:
                self._look_at(held)

    def _look_around(self) -> None:
        try:
            self.look()
        except Exception:
            # A bug; but a `LoopingCall` whose function raises is over, and nothing would be looked at ever again.
            self._log.failure("looking around failed")

    def look(self) -> None:
        """Look at all attempts now."""
        for held in list(self._held.values()):
            held.may_have_more = True
            self._look_at(held)
        self.pump()

    def _look_at(self, held: HeldAttempt) -> None:
        try:
            self._look_into(held)
        except (OSError, msgspec.DecodeError) as error:
            # A full disk, too many open files, a file that a build has tampered with: that is this attempt's trouble
            # alone, and the next look tries again.
            self._log.error("{name} can't be looked at: {error}", name=held.name, error=error)

    def _look_into(self, held: HeldAttempt) -> None:
        if held.forgetting:
            if not held.alive():
                self._once(held, "removing", self._remove(held))
            elif held.cancelling:
                held.cancel()
            return
        if held.cancelling and held.phase is not Phase.ENDED:
            held.cancel()
        if held.starting:
            self.start(held)
        if held.may_conclude(self._reactor.seconds()) and held.look():
            self._once(held, "concluding", self._conclude(held))
        if held.synced and self._to_ask(held):
            self._once(held, "asking", self._ask_permit(held))
        if held.phase is Phase.ENDED and self._to_upload(held):
            self._once(held, "uploading", self._upload(held))

    def _once(self, held: HeldAttempt, what: str, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run a workflow of an attempt, unless it is under way already."""
        if what in held.busy:
            work.close()
            return
        held.busy.add(what)

        async def run() -> None:
            try:
                await work
            finally:
                held.busy.discard(what)

        self.launch(run(), f"{what} {held.name}")

    async def _remove(self, held: HeldAttempt) -> None:
        await self._in_thread(held.remove)
        crash_point(CrashPoint.BUILDER_FOLDER_REMOVED)
        self._held.pop(held.name, None)
        self._forwarding.remove(held)
        if self._empty is not None and not self._held:
            self._empty.callback(None)
            self._empty = None

    async def _conclude(self, held: HeldAttempt) -> None:
        try:
            result = await self._in_thread(held.conclude, self._now())
        except OSError as error:
            self._log.error("how {name} ended can't be told yet: {error}", name=held.name, error=error)
            held.not_concluded(self._reactor.seconds(), error)
            return
        crash_point(CrashPoint.BUILDER_END_KNOWN)
        held.ended(result)
        self._log.info("{name} ended: {outcome}", name=held.name, outcome=result.outcome)
        self._look_at(held)
        self.pump()

    # -- forwarding

    def pump(self) -> None:
        """Send what can be sent: the link takes more, or there is more, or there is credit again."""
        link = self._link
        if link is None or not link.synced:
            return
        now = self._reactor.seconds()
        if self._forwarding.pump(link, now):
            crash_after_turn(self._reactor, CrashPoint.BUILDER_LOG_SENT)
        if self._next_pump is None and self._forwarding.searching and not link.peer.paused:
            self._next_pump = self._reactor.callLater(0, self._pump_on)
        for held in self._held.values():
            if (
                held.synced
                and held.drained
                and not self._to_upload(held, now=float("inf"))
                and (held.final_sent is None or held.final_sent + FINAL_INTERVAL < now)
            ):
                held.final_sent = now
                link.send(held.final(self._now()))
                crash_after_turn(self._reactor, CrashPoint.BUILDER_FINAL_SENT)

    def _pump_on(self) -> None:
        self._next_pump = None
        self.pump()

    # -- publishing

    def _to_ask(self, held: HeldAttempt) -> bool:
        """Whether a permit is wanted, and it is time to ask for it."""
        waits = "asking" in held.busy or self._reactor.seconds() < held.retry_permit_at
        return not waits and held.permit_wanted() is not None

    async def _ask_permit(self, held: HeldAttempt) -> None:
        link, wanted = self._link, held.permit_wanted()
        if link is None or wanted is None:
            return
        held.retry_permit_at = self._reactor.seconds() + PERMIT_INTERVAL
        self.pump()  # the apiserver decides by what the log tells
        want = m.WantPermit(
            attempt=held.spec.attempt, lease=held.spec.lease, package=wanted.package, target=wanted.target
        )
        try:
            permit = await link.peer.call(want, timeout=CALL_TIMEOUT)
        except (CallFailed, CallTimedOut, NotConnected) as error:
            self._log.info("no permit for {name} yet: {error}", name=held.name, error=error)
            return
        assert isinstance(permit, Permit)
        if held.permit_wanted() == wanted:  # else it is the answer to another question
            held.permit(permit)

    def _to_upload(self, held: HeldAttempt, now: float | None = None) -> bool:
        """Whether there is an archive to upload, and it is time to try."""
        result = held.result
        if result is None or result.outcome != "succeeded" or result.artifact is None or held.upload.done:
            return False
        return (self._reactor.seconds() if now is None else now) >= held.upload.retry_at

    async def _upload(self, held: HeldAttempt) -> None:
        link, result = self._link, held.result
        if link is None or not held.synced or result is None or result.artifact is None:
            return
        artifact, state = result.artifact, held.upload
        state.begins(self._reactor.seconds())
        want = m.WantUpload(
            attempt=held.spec.attempt,
            lease=held.spec.lease,
            size=artifact.size,
            sha256=artifact.sha256,
            trouble=state.trouble,
        )
        try:
            grant = await link.peer.call(want, timeout=CALL_TIMEOUT)
            assert isinstance(grant, m.UploadGrant)
            if not grant.complete:
                url = self._uploads.rstrip("/") + grant.path
                archive = held.folder / "archive.tar.gz"
                await upload(self._agent, self._reactor, url, grant.token, archive, artifact.size, state.arrived)
        except CallFailed as error:
            if error.code == "refused":
                self._give_upload_up(held, result, str(error))
            else:
                self._log.info("{name} can't be uploaded yet: {error}", name=held.name, error=error)
        except (CallTimedOut, NotConnected) as error:
            self._log.info("{name} can't be uploaded yet: {error}", name=held.name, error=error)
        except (NoArchive, FileNotFoundError) as error:
            self._give_upload_up(held, result, str(error))
        except UploadFailed as error:
            self._log.warn("uploading {name} was broken off: {error}", name=held.name, error=error)
            if held.synced and self._link is link and (why := state.failed(self._reactor.seconds(), error)):
                self._give_upload_up(held, result, why)
        else:
            crash_point(CrashPoint.BUILDER_UPLOADED)
            state.done = True
            self.pump()

    def _give_upload_up(self, held: HeldAttempt, result: Result, why: str) -> None:
        """It would fail again however often it is tried: so has the attempt."""
        held.ended(
            msgspec.structs.replace(
                result, outcome="failed", reason=f"what was built can't be stored: {why}", artifact=None
            )
        )
        self.pump()

    # -- workflows

    def launch(self, work: Coroutine[Deferred[Any], Any, None], about: str) -> None:
        """Run a workflow of this service; its failure is logged, its end awaited by `stopService`."""
        running: Deferred[None] = Deferred.fromCoroutine(work)
        self._workflows.add(running)

        def failed(failure: Failure) -> None:
            if not (self._draining and failure.check(CancelledError)):
                self._log.failure("{about} failed", failure, about=about)

        running.addErrback(failed)
        running.addBoth(lambda _: self._workflows.discard(running))

    def _in_thread(self, function: Callable[..., _T], *args: object) -> Deferred[_T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)


_EMPTY_SHA256 = LogDigest().hexdigest()

_NO_SPEC = Spec(
    attempt="", lease="", build=0, project="", repository="", ref="", path="", mirror="", npm_cache="", doorbell=""
)


async def _maybe(result: object) -> None:
    """Wait for what may be a Deferred."""
    if isinstance(result, Deferred):
        await result
