"""
The builder's duties on a link: to sync, to answer each offer, and to do what the apiserver says. Made by
``compose``; it is the application factory of the builder's links.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from twistedipc import __version__
from twistedipc.attempts.cgroup import Parents
from twistedipc.attempts.crashpoints import CrashPoint, crash_after_turn, crash_point
from twistedipc.attempts.room import readable
from twistedipc.builder.forwarding import Forwarding
from twistedipc.builder.held import HeldAttempt
from twistedipc.builder.link import ApiserverLink, Uplink
from twistedipc.builder.looking import Looking
from twistedipc.builder.offers import sendable, why_failed, why_impossible, why_no_uploads
from twistedipc.builder.ports import Folder, Outside
from twistedipc.builder.publishing import CALL_TIMEOUT, Publishing
from twistedipc.builder.registry import HeldAttempts
from twistedipc.builder.remotes import Questions
from twistedipc.builder.settings import Settings, spec_of
from twistedipc.builder.tooling import Tooling
from twistedipc.builder.workflows import Workflows
from twistedipc.builds import messages as m
from twistedipc.builds.attempt import Spec
from twistedipc.builds.isolation import NOT_ISOLATED
from twistedipc.ipc import CallFailed, CallTimedOut, NotConnected, Peer, PeerInfo
from twistedipc.publish.targets.registry import TARGETS


class Duties:
    """
    The builder towards its apiserver.

    :param slots: how many attempts may run at once
    :param apiserver_url: where uploads go, if that isn't where the apiserver says
    """

    _log = Logger()

    def __init__(
        self,
        outside: Outside,
        settings: Settings,
        attempts: HeldAttempts,
        uplink: Uplink,
        forwarding: Forwarding,
        publishing: Publishing,
        looking: Looking,
        questions: Questions,
        tooling: Tooling,
        workflows: Workflows,
        *,
        slots: int,
        apiserver_url: str,
    ) -> None:
        self.draining = False  # no more offers are taken
        self.cgroups = Parents()  # where attempts' control groups are made
        self.isolation = NOT_ISOLATED  # what keeps builds from reaching more than their own
        self._outside = outside
        self._settings = settings
        self._attempts = attempts
        self._uplink = uplink
        self._forwarding = forwarding
        self._publishing = publishing
        self._looking = looking
        self._questions = questions
        self._tooling = tooling
        self._workflows = workflows
        self._slots = slots
        self._apiserver_url = apiserver_url

    # -- the link

    def refuse(self, peer: PeerInfo) -> str | None:
        """Return why this apiserver may not link now; None if it may."""
        link = self._uplink.link
        if link is not None and link.peer.info.name != peer.name:
            return f"this builder is linked with the apiserver {link.peer.info.name}"
        return None

    def application(self, peer: Peer) -> ApiserverLink:
        """Make the application of a new link to the apiserver. The framework's application factory."""
        if self._uplink.link is not None:
            self._uplink.link.peer.close("superseded", "the apiserver has linked again")
            self._unlink()
        link = self._uplink.link = ApiserverLink(self, peer)
        self._workflows.launch(self._sync(link), "the sync")
        return link

    def lost(self, link: ApiserverLink, reason: str) -> None:
        """Note that the link is gone. The builds don't notice."""
        if self._uplink.link is link:
            self._log.info("the link to {name} is lost: {reason}", name=link.peer.info.name, reason=reason)
            self._unlink()

    def writable(self) -> None:
        """Forward more of the journals: the link takes more."""
        self._forwarding.forward()

    def drain(self) -> None:
        """Take no more offers, and tell the apiserver."""
        self.draining = True
        if (link := self._uplink.synced) is not None:
            link.send(m.Status(slots=self._slots, draining=True))

    def _unlink(self) -> None:
        self._uplink.link = None
        for held in self._attempts:
            held.unsync()

    async def _sync(self, link: ApiserverLink) -> None:
        sync = m.Sync(
            slots=self._slots,
            draining=self.draining,
            attempts=[held.described() for held in self._attempts if held.known],
            features=self._features(),
            version=__version__,
            isolation=self.isolation.kind if not self.isolation.refused else "",
        )
        try:
            orders = await link.peer.call(sync, timeout=CALL_TIMEOUT)
        except (CallFailed, CallTimedOut, NotConnected) as error:
            self._log.error("the sync with {name} failed: {error}", name=link.peer.info.name, error=error)
            link.peer.close("sync_failed", str(error))
            return
        assert isinstance(orders, m.Orders)
        if self._uplink.link is not link:
            return
        self._log.info("synced with {name} at {address}", name=link.peer.info.name, address=link.peer.info.address)
        link.synced = True
        link.features = frozenset(orders.features)
        try:
            self._obey(orders)
        except Exception as error:
            link.peer.close("sync_failed", str(error))  # else some attempts would wait for an order for ever
            raise
        self._looking.look()
        self._tooling.look()

    def _features(self) -> list[str]:
        """What this builder can do: it can keep a build from the network only if it isolates its steps."""
        features = {*m.FEATURES, *TARGETS.features}
        return sorted(features - {"network"} if self.isolation.kind == "none" else features)

    def _obey(self, orders: m.Orders) -> None:
        url = self._publishing.url = self._apiserver_url or orders.uploads
        self._publishing.refused = why_no_uploads(url, allow_plain_http=self._settings.allow_plain_http)
        if self._publishing.refused:
            self._log.error("builds with an archive are declined: {reason}", reason=self._publishing.refused)
        self._uplink.limit = orders.credit
        for order in orders.orders:
            held = self._attempts.under_lease(order.attempt, order.lease)
            if held is None:
                continue
            match order.order:
                case "stop":
                    self._looking.forget(held, kill=True)
                case "forget":
                    self._looking.forget(held, kill=False)
                case "continue" | "go":
                    held.begin(order.next, self._uplink.credit())
                    if order.cancel:
                        self._looking.cancel(held, order.cancel)
                    if order.order == "go":
                        self._looking.go(held)

    # -- what the apiserver says

    def received(self, link: ApiserverLink, message: msgspec.Struct) -> None:
        """
        Do what a one-way message says. A message about a lease that isn't held changes nothing, since that lease is
        over. Nor does one about a log that isn't synced on this link: it is about what was sent on the link before.
        """
        MESSAGES[type(message)](self, link, message)

    async def asked(self, request: msgspec.Struct) -> msgspec.Struct:
        """Answer a call. Raises `CallFailed`."""
        assert isinstance(request, m.ListRefs | m.DescribeCommits), request
        if self.isolation.refused:
            raise CallFailed("refused", self.isolation.refused)
        return await self._questions.answer(request, self.isolation, self._publishing.url)

    def _offer(self, link: ApiserverLink, offer: m.Offer) -> None:
        self._workflows.launch(self._answer(link, offer), "an offer")

    def _ack(self, _link: ApiserverLink, ack: m.Ack) -> None:
        held = self._attempts.attempt(ack.attempt)
        if held is not None and held.log.synced:
            crash_point(CrashPoint.BUILDER_ACK_RECEIVED)
            held.log.acknowledged(ack.next)
            self._forwarding.forward()

    def _resend(self, _link: ApiserverLink, resend: m.Resend) -> None:
        held = self._attempts.attempt(resend.attempt)
        if held is not None and held.log.synced:
            held.rewind(resend.next)
            self._forwarding.forward()

    def _go(self, _link: ApiserverLink, go: m.Go) -> None:
        held = self._attempts.under_lease(go.attempt, go.lease)
        if held is not None:
            self._looking.go(held)

    def _cancel(self, _link: ApiserverLink, cancel: m.CancelAttempt) -> None:
        held = self._attempts.under_lease(cancel.attempt, cancel.lease)
        if held is not None:
            self._looking.cancel(held, cancel.reason)

    def _stop(self, _link: ApiserverLink, stop: m.Stop) -> None:
        held = self._attempts.under_lease(stop.attempt, stop.lease)
        if held is not None:
            self._looking.forget(held, kill=True)

    def _final_ack(self, _link: ApiserverLink, ack: m.FinalAck) -> None:
        crash_point(CrashPoint.BUILDER_FINAL_ACK_RECEIVED)
        held = self._attempts.under_lease(ack.attempt, ack.lease)
        if held is not None:
            self._looking.forget(held, kill=False)
            self._tooling.look()  # what it has fetched is there for others

    # -- offers

    async def _answer(self, link: ApiserverLink, offer: m.Offer) -> None:
        """
        Write the attempt down and accept it, or decline it. Any failure is a reason to decline: an offer without an
        answer would keep the attempt from all other builders until it expires.
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
        if link is not self._uplink.link:
            if held is not None and self._uplink.link is not None:
                # The sync on that link went out without it, so the apiserver has taken the offer back.
                self._looking.forget(held, kill=False)
            return  # without a link, the next sync tells that it is held
        if held is None:
            self._log.info("declined {attempt}: {reason}", attempt=offer.attempt, reason=reason)
            link.send(m.Decline(attempt=offer.attempt, lease=offer.lease, reason=sendable(reason)))
            return
        held.begin(1, self._uplink.credit())
        link.send(m.Accept(attempt=offer.attempt, lease=offer.lease))
        crash_after_turn(self._outside.clock, CrashPoint.BUILDER_ACCEPT_SENT)

    async def _write_down(self, offer: m.Offer) -> HeldAttempt:
        """Make the attempt's folder, and hold the attempt. Raises OSError, or anything else if there is a bug."""
        with self._attempts.accepting(offer.attempt):
            disk = self._outside.disk
            reserve, isolation = disk.reserve(), self.isolation
            spec = spec_of(
                offer,
                self._settings,
                reserve=reserve,
                cgroups=self.cgroups,
                isolation=isolation,
                apiserver=self._publishing.url,
            )
            folder = await self._outside.in_thread(disk.create, spec)
            crash_point(CrashPoint.BUILDER_SPEC_WRITTEN)
            try:
                held = self.held_in(folder, spec)
            except Exception:
                await self._outside.in_thread(folder.remove)
                raise
        self._looking.hold(held)
        return held

    def held_in(self, folder: Folder, spec: Spec) -> HeldAttempt:
        """Return the attempt in a folder. Raises OSError."""
        return HeldAttempt(folder, spec, upload_limit=self._settings.upload)

    def _why_not(self, offer: m.Offer) -> str:
        impossible = why_impossible(offer)
        if impossible:
            return impossible
        if offer.site and self._publishing.refused:
            return self._publishing.refused
        if self.draining:
            return "the builder is draining"
        if self.isolation.refused:
            return self.isolation.refused
        if self._attempts.has(offer.attempt):
            return "the builder holds this attempt already"
        if self._attempts.slots_taken >= self._slots:
            return "all slots are taken"
        with contextlib.suppress(OSError):  # if the disk doesn't answer, writing the attempt down fails too
            free, reserve = self._outside.disk.free(), self._outside.disk.reserve()
            if free < reserve:
                return f"the builder's disk is nearly full: {readable(free)} are free, {readable(reserve)} are reserved"
        return ""


#: What is done for each one-way message; a test holds it to `VOCABULARY`.
MESSAGES: dict[type[msgspec.Struct], Callable[[Duties, ApiserverLink, Any], None]] = {
    m.Offer: Duties._offer,
    m.Go: Duties._go,
    m.Stop: Duties._stop,
    m.CancelAttempt: Duties._cancel,
    m.Ack: Duties._ack,
    m.Resend: Duties._resend,
    m.FinalAck: Duties._final_ack,
}
