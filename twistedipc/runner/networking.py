"""
What each step of the attempt may reach of the network, and what it was refused. Used by ``course``; the gate is
``isolation.network``'s.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, Protocol

import msgspec
from msgspec.structs import replace

from twistedipc.attempts.processes import family, reap
from twistedipc.builds.attempt import Spec
from twistedipc.builds.egress import Contact, Egress
from twistedipc.builds.host_rules import of_address, place
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.isolation.network.attempt import Allowed, AttemptNetwork, NetworkFailed
from twistedipc.isolation.network.hosts import NOT_USED, cure
from twistedipc.isolation.reach import Reach

#: Seconds for the gate to end by itself.
_END = 2.0

#: Where hosts keep large files, which a checkout fetches from there.
_LARGE_FILES = {"github.com": ("*.githubusercontent.com:443", "github-cloud.s3.amazonaws.com:443")}


class NoNetwork(Exception):
    """A step can't be run, since it can't have its network. The text says why."""


class Notes(Protocol):
    """Where a runner says something in the log: `attempt_log.AttemptLog` is one."""

    def note(self, level: Literal["info", "warning", "error"], message: str) -> None:
        """Put a notice of the platform's own into the log."""

    def mask(self, secret: str) -> None:
        """Hide a secret from now on."""


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """What a step is started with, so that it is in its network."""

    reach: Reach
    namespaces: Sequence[int] = ()
    environment: dict[str, str] = {}


class Networking:
    """The network of one attempt's steps. Where steps aren't isolated, they have the machine's, and nobody looks."""

    def __init__(self, spec: Spec, log: Notes) -> None:
        self._spec = spec
        self._log = log
        self._plan: Plan | None = None
        self._gate: AttemptNetwork | None = None
        #: what the last step was refused
        self.refused: Sequence[Contact] = ()
        isolation = spec.isolation
        if isolation.kind != "none":
            engine = isolation.engine or ("loopback" if isolation.kind == "landlock" else "gate")
            self._gate = AttemptNetwork(engine, isolation.connects, spec.network.ours, spec.project)
            if self._gate.password:
                log.mask(self._gate.password)

    def start(self) -> None:
        """Start the gate, which is there by the time of the first step then."""
        if self._gate is not None:
            with suppress(NetworkFailed):  # the first step says so
                self._gate.start()

    def planned(self, plan: Plan) -> None:
        """Note what the project's files say of it."""
        self._plan = plan

    @property
    def processes(self) -> set[int]:
        """The processes of the gate, which aren't the build's."""
        return family(self._gate.process) if self._gate is not None and self._gate.process else set()

    # -- what a step may reach; None is nothing --

    def checkout(self) -> Allowed:
        """Return what the checkout may reach: the repository's host, and those that the project names."""
        hosts = of_address(self._spec.repository)
        large = [each for host in hosts for each in _LARGE_FILES.get(host.rpartition(":")[0], ())]
        hosts += [*large, *self._spec.settings.hosts, *self._spec.network.proxies]
        return replace(self._only(hosts), elsewhere=self._spec.elsewhere)

    def toolchain(self) -> Allowed:
        """Return what the step that fetches tools may reach: their registry, which the operator has set."""
        return self._only(self._spec.network.proxies)

    def step(self, step: PlannedStep) -> Allowed | None:
        """Return what a step of the build may reach."""
        plan = self._plan
        assert plan is not None
        mode = step.network or plan.network
        if mode == "none":
            return None
        hosts = [*of_address(self._spec.repository), *plan.hosts]
        for registry in self._spec.registries:
            hosts += of_address(registry.address)
        if mode == "open":
            return replace(self._only([*hosts, *self._spec.network.proxies]), open=True)
        used = self._spec.network.used
        if plan.egress != "ask" or used is None:
            return self._only(hosts)
        return replace(self._only(hosts), used=[*used, *(host.partition(":")[0] for host in plan.hosts)])

    def deliver(self, addresses: Sequence[str]) -> Allowed:
        """Return what a step that publishes may reach: what its target names."""
        hosts = [each for address in addresses for each in of_address(address)]
        return self._only([*hosts, *self._spec.network.proxies])

    def _only(self, hosts: Sequence[str]) -> Allowed:
        return Allowed(allowed=list(dict.fromkeys(hosts)), operators=self._spec.network.operators)

    # -- a step in its network --

    @contextmanager
    def connected(self, step: str, allowed: Allowed | None, reach: Reach) -> Iterator[Connected]:
        """Give what a step is started with. What it was refused is in the log afterwards. Raises `NoNetwork`."""
        self.refused = ()
        if self._gate is None:
            yield Connected(reach=reach)
            return
        if allowed is None or reach.network == "none":
            yield Connected(reach=replace(reach, network="none"))
            return
        try:
            joined = self._gate.join(step, allowed)
        except NetworkFailed as error:
            raise NoNetwork(f"step {step} can't be run: {error}") from error
        proxies = self._spec.network.proxies
        # No step reaches the operator's proxies itself where the gate's is all that it can connect to.
        by_operators = bool(proxies) and set(proxies) <= set(allowed.allowed) and not joined.gate
        environment = {} if by_operators else joined.environment
        reach = replace(reach, gate=joined.gate)
        yield Connected(reach=reach, namespaces=joined.namespaces, environment=environment)
        try:
            self.refused = self._gate.ended()
        except NetworkFailed as error:
            self._log.note("warning", f"which hosts this step was refused isn't known: {error}")
        for contact in self.refused:
            self._log.note("warning", f"{_refusal(contact)}. {cure(contact.why, contact.host, self._spec.project)}")

    def why_failed(self) -> str:
        """Return what the last step did that it fails for, whatever its exit code is; "" if nothing."""
        new = next((contact for contact in self.refused if contact.why == NOT_USED), None)
        if new is None:
            return ""
        return f"it contacted {place(new.host, new.port)}, and {new.why}. {cure(new.why, new.host, self._spec.project)}"

    def explained(self) -> str:
        """Return what may be the cause if the last step has failed: what it was refused; "" if nothing."""
        return f": {_refusal(self.refused[0])}" if self.refused else ""

    def end(self) -> Egress | None:
        """End the gate. Return the egress ledger; None if nobody looked."""
        if self._gate is None:
            return None
        egress = self._gate.report()
        left = self.processes
        self._gate.close()
        until = time.monotonic() + _END
        while left:
            reap()
            left = {pid for pid in left if os.path.exists(f"/proc/{pid}")}
            if left and time.monotonic() > until:
                for pid in left:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.002)
        return egress


def _refusal(contact: Contact) -> str:
    return f"the network refused {place(contact.host, contact.port)}: {contact.why}"
