"""
The server's composition: every object of it, wired. Used by ``taps`` with the real outside, and by tests with a clock
of their own and a ledger in memory. Nothing here opens, starts, or waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from twistedipc import __version__
from twistedipc.publish.targets.target import Releases
from twistedipc.server.bell import Bell
from twistedipc.server.boundaries import InThread, RandomBytes
from twistedipc.server.builder_keys import BuilderKeys
from twistedipc.server.builder_link import Collaborators
from twistedipc.server.builders import Builders
from twistedipc.server.comparing import Comparing
from twistedipc.server.delivering import Delivering, PublishProgram
from twistedipc.server.dispatch import QueueDispatch
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.rounds import DEFAULT_SHARE
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.gists import Gists
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.server.linked import LinkedBuilders
from twistedipc.server.permits import Permits
from twistedipc.server.provenance import Provenance
from twistedipc.server.releasing import Releasing
from twistedipc.server.resting import Resting
from twistedipc.server.secrets import BuildSecrets
from twistedipc.server.states import Feed
from twistedipc.server.uploads import UploadGrants
from twistedipc.server.waiting import Reasons
from twistedipc.server.workflows import MAX_WORKFLOWS, Workflows
from twistedipc.server.writers import LogWriters
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.secrets import SecretBox
from twistedipc.storage.signing import SigningKey


@dataclass(frozen=True, kw_only=True)
class Outside:
    """Everything that the server takes from outside."""

    clock: IReactorTime
    now: Callable[[], int]  # milliseconds since the epoch
    spent: Callable[[], float]  # seconds of processor time; see `fanout.rounds.Rounds`
    random: RandomBytes
    in_thread: InThread
    ledger: Ledger
    artifact_store: ArtifactStore
    releases: Mapping[str, Releases]  # by target
    secret_box: SecretBox
    signing_key: SigningKey
    program: PublishProgram


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What the operator decides, and what tests make small."""

    uploads_url: str  # where builders upload to
    release_url: Callable[[str], str]  # project -> where its live release is served
    lost_after: float  # seconds that a builder may be away before its attempts are lost
    elsewhere: Callable[[str], bool] = lambda repository: False  # whether it may be at no machine's own address
    share: float = DEFAULT_SHARE  # of the reactor's time, for viewers
    log_limits: LogLimits = field(default_factory=LogLimits)
    shared_files: SharedFiles = field(default_factory=SharedFiles)
    max_workflows: int = MAX_WORKFLOWS
    max_running: int = 256  # of each link's workflows


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server, composed."""

    outside: Outside
    feed: Feed
    gists: Gists
    logs: LogStore
    grants: UploadGrants
    releasing: Releasing
    lifecycle: Lifecycle
    workflows: Workflows
    writers: LogWriters
    keys: BuilderKeys
    builders: Builders
    dispatch: QueueDispatch
    delivering: Delivering
    comparing: Comparing
    bell: Bell
    deliveries: Bell

    def start(self) -> None:
        """
        Begin to offer attempts, and to publish what is stored. The ledger is open by then, and `Builders.recover` has
        ended.
        """
        self.dispatch.start(self.bell)
        self.delivering.start(self.deliveries)


def compose(outside: Outside, settings: ServerSettings) -> Server:
    """Make every object of the server, each with what it works with."""
    clock, now, ledger = outside.clock, outside.now, outside.ledger
    bell, deliveries = Bell(), Bell()
    workflows = Workflows(clock, most=settings.max_workflows)
    feed = Feed()
    gists = Gists(clock, ledger)
    logs = LogStore(
        clock,
        ledger,
        share=settings.share,
        spent=outside.spent,
        limits=settings.log_limits,
        files=settings.shared_files,
    )
    grants = UploadGrants(outside.random)
    resting = Resting(clock, bell.ring)
    linked = LinkedBuilders(resting)
    releasing = Releasing(outside.in_thread, now, ledger, outside.artifact_store, outside.releases)
    lifecycle = Lifecycle(
        now=now,
        ledger=ledger,
        workflows=workflows,
        bell=bell,
        deliveries=deliveries,
        linked=linked,
        resting=resting,
        releasing=releasing,
        feed=feed,
        gists=gists,
        logs=logs,
        grants=grants,
        provenance=Provenance(outside.signing_key, settings.uploads_url, __version__),
    )
    writers = LogWriters(clock, ledger, logs, gists)
    keys = BuilderKeys(ledger, outside.secret_box, workflows, now)
    builders = Builders(
        Collaborators(
            clock=clock,
            now=now,
            ledger=ledger,
            logs=logs,
            lifecycle=lifecycle,
            workflows=workflows,
            writers=writers,
            linked=linked,
            resting=resting,
            bell=bell,
            keys=keys,
            permits=Permits(ledger, outside.secret_box, lifecycle),
            secrets=BuildSecrets(ledger, outside.secret_box, now),
            grants=grants,
            artifact_store=outside.artifact_store,
            uploads_url=settings.uploads_url,
            max_running=settings.max_running,
        ),
        settings.lost_after,
    )
    dispatch = QueueDispatch(
        clock=clock,
        random=outside.random,
        ledger=ledger,
        lifecycle=lifecycle,
        workflows=workflows,
        linked=linked,
        resting=resting,
        release_url=settings.release_url,
        elsewhere=settings.elsewhere,
        reasons=Reasons(clock, now, linked, resting, builders.away),
    )
    return Server(
        outside=outside,
        feed=feed,
        gists=gists,
        logs=logs,
        grants=grants,
        releasing=releasing,
        lifecycle=lifecycle,
        workflows=workflows,
        writers=writers,
        keys=keys,
        builders=builders,
        dispatch=dispatch,
        delivering=Delivering(
            now=now,
            ledger=ledger,
            lifecycle=lifecycle,
            logs=logs,
            gists=gists,
            workflows=workflows,
            writers=writers,
            secret_box=outside.secret_box,
            artifact_store=outside.artifact_store,
            program=outside.program,
        ),
        comparing=Comparing(clock, ledger, outside.secret_box, outside.artifact_store, outside.program),
        bell=bell,
        deliveries=deliveries,
    )
