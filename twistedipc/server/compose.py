"""
The server's composition: every object of it, wired. Used by ``taps`` with the real outside, and by tests with a clock
of their own and a ledger in memory. Nothing here opens, starts, or waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection
from twisted.internet.interfaces import IReactorTime

from twistedipc import __version__
from twistedipc.builds.retention import Rules
from twistedipc.outgoing.told import At, Told
from twistedipc.publish.targets.target import Releases
from twistedipc.server.archived import Archived
from twistedipc.server.asking import Asking, AskProgram
from twistedipc.server.bell import Bell, Wire
from twistedipc.server.boundaries import DELIVERING, REQUESTING, InThread, MailSending, RandomBytes, Requests
from twistedipc.server.builder_keys import BuilderKeys
from twistedipc.server.builder_link import Collaborators
from twistedipc.server.builders import Builders
from twistedipc.server.comparing import Comparing
from twistedipc.server.delivering import Delivering
from twistedipc.server.delivery_log import DeliveryLog
from twistedipc.server.diagnosing import Diagnosing
from twistedipc.server.discarding import Discarding
from twistedipc.server.dispatch import Offers, QueueDispatch
from twistedipc.server.fanout.following import Following
from twistedipc.server.fanout.limits import LogLimits
from twistedipc.server.fanout.rounds import DEFAULT_SHARE
from twistedipc.server.fanout.shared import SharedFiles
from twistedipc.server.fanout.store import LogStore
from twistedipc.server.filing import InThreads
from twistedipc.server.gists import Gists
from twistedipc.server.hearing import Hearing
from twistedipc.server.jobs import PublishProgram
from twistedipc.server.lifecycle import Lifecycle
from twistedipc.server.linked import LinkedBuilders
from twistedipc.server.neighbours import Neighbours
from twistedipc.server.outbox.sender import Sender
from twistedipc.server.outbox.telling import Telling
from twistedipc.server.passwords import Passwords
from twistedipc.server.permits import Permits
from twistedipc.server.polling import Polling
from twistedipc.server.project_locks import ProjectLocks
from twistedipc.server.provenance import Provenance
from twistedipc.server.pruning import Pruning
from twistedipc.server.rejecting import Rejecting
from twistedipc.server.releasing import Releasing
from twistedipc.server.requesting import Requesting
from twistedipc.server.resting import Resting
from twistedipc.server.scheduling import Scheduling
from twistedipc.server.sealing import DEFAULT_SHARE as SEALING_SHARE
from twistedipc.server.sealing import Sealing
from twistedipc.server.searching import Searching
from twistedipc.server.secrets import BuildSecrets
from twistedipc.server.shared_duties import Duty, SharedDuties
from twistedipc.server.states import Feed
from twistedipc.server.target_secrets import TargetSecrets
from twistedipc.server.tidying import Tidying
from twistedipc.server.uploads import UploadGrants
from twistedipc.server.waiting import Reasons
from twistedipc.server.watching import Watching
from twistedipc.server.workflows import MAX_WORKFLOWS, Workflows
from twistedipc.server.writers import LogWriters
from twistedipc.storage import changes
from twistedipc.storage.apiservers import Incarnation, database_now
from twistedipc.storage.artifacts import ArtifactStore
from twistedipc.storage.file_locks import FileLocks
from twistedipc.storage.id_tokens import Issuer
from twistedipc.storage.ledger import Ledger
from twistedipc.storage.log_archive import Archive, Kind
from twistedipc.storage.rings import Topic
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
    search_in_thread: InThread  # searches take long, so they have threads of their own
    ledger: Ledger
    artifact_store: ArtifactStore
    log_archive: Archive
    log_objects: Archive | None = None  # the same in S3; None: there is none
    objects_in_thread: InThread | None = None  # where S3 is asked, which may take long to answer
    releases: Mapping[str, Releases]  # by target
    secret_box: SecretBox
    signing_key: SigningKey
    issuer: Issuer
    program: PublishProgram
    ask_program: AskProgram
    requests: Requests
    mail: MailSending
    wire: Wire | None = None  # of the bell, to other apiservers on the same ledger
    #: To which topics these listen: to none, while there is no other. Called in any thread.
    elsewhere: Callable[[], frozenset[Topic]] = frozenset
    file_locks: FileLocks | None = None  # of what several apiservers have on disk; None: there is one
    here: Callable[[], Incarnation | None] = lambda: None  # which of several apiservers on the ledger this is
    #: Whether others may have given this one up without its knowing, since it doesn't reach the ledger.
    cut_off: Callable[[], bool] = lambda: False
    database_time: Callable[[Connection], int] = database_now


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What the operator decides, and what tests make small."""

    uploads_url: str  # where builders upload to
    release_url: Callable[[str], str]  # project -> where its live release is served
    lost_after: float  # seconds that a builder may be away before its attempts are lost
    elsewhere: Callable[[str], bool] = lambda repository: False  # whether it may be at no machine's own address
    share: float = DEFAULT_SHARE  # of the reactor's time, for viewers
    seal_to: Kind | None = None  # into which archive sealed logs go; None: into the database
    move_sealed: bool = False  # whether those that are elsewhere go there too
    sealing_share: float = SEALING_SHARE  # of the time, for sealing logs
    retention: Rules = field(default_factory=Rules)  # of projects that have none of their own; by default all is kept
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
    archived: Archived
    searching: Searching
    diagnosing: Diagnosing
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
    asking: Asking
    requesting: Requesting
    watching: Watching
    scheduling: Scheduling
    polling: Polling
    tidying: Tidying
    sealing: Sealing
    pruning: Pruning
    sender: Sender
    bell: Bell
    hearing: Hearing
    neighbours: Neighbours
    duties: SharedDuties

    def start(self) -> None:
        """
        Begin to offer attempts, to publish what is stored, to look at registries, to build what is due, to look at
        repositories, to seal logs, and to tell others. The ledger is open by then, and `Builders.recover` has ended.
        """
        self.dispatch.start(self.bell)
        if self.outside.here() is not None:
            self.neighbours.start()
        else:
            self.duties.start_all()
        self.bell.start()

    def stop_publishing(self) -> None:
        """Begin nothing more at registries and elsewhere, and end what runs: the next start goes on with it."""
        self.bell.stop()
        self.neighbours.stop()
        self.sender.stop()
        self.sealing.stop()
        self.pruning.stop()
        self.tidying.stop()
        self.polling.stop()
        self.scheduling.stop()
        self.watching.stop()
        self.requesting.stop()
        self.delivering.stop()
        self.asking.stop()


def compose(outside: Outside, settings: ServerSettings) -> Server:
    """Make every object of the server, each with what it works with."""
    clock, now, ledger = outside.clock, outside.now, outside.ledger
    bell = Bell(
        clock,
        outside.wire,
        elsewhere=outside.elsewhere,
        # It may fail as any other: those elsewhere look by themselves then.
        write=lambda: ledger.write(_nothing).addErrback(lambda failure: None),
    )
    passwords = Passwords()
    workflows = Workflows(clock, most=settings.max_workflows)
    feed = Feed()
    gists = Gists(clock, ledger)
    archived = Archived(
        clock,
        ledger,
        files=outside.log_archive,
        objects=outside.log_objects,
        in_thread=outside.objects_in_thread,
    )
    archives = {Kind.FILES: InThreads(outside.log_archive, outside.in_thread)}
    if outside.log_objects is not None and outside.objects_in_thread is not None:
        archives[Kind.OBJECTS] = InThreads(outside.log_objects, outside.objects_in_thread)
    logs = LogStore(
        clock,
        ledger,
        share=settings.share,
        spent=outside.spent,
        limits=settings.log_limits,
        files=settings.shared_files,
        archived=archived,
    )
    grants = UploadGrants(outside.random)
    resting = Resting(clock, partial(bell.ring, Topic.BUILDER))
    linked = LinkedBuilders(resting, now)
    releasing = Releasing(
        outside.in_thread,
        now,
        ledger,
        outside.artifact_store,
        outside.releases,
        workflows,
        ProjectLocks(clock, outside.file_locks),
        settings.retention,
    )
    lifecycle = Lifecycle(
        now=now,
        ledger=ledger,
        workflows=workflows,
        bell=bell,
        passwords=passwords,
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
    secrets = TargetSecrets(outside.secret_box, outside.issuer, outside.in_thread, clock)
    build_secrets = BuildSecrets(ledger, outside.secret_box, now)
    keys = BuilderKeys(ledger, outside.secret_box, workflows, now)
    builders = Builders(
        Collaborators(
            clock=clock,
            now=now,
            here=outside.here,
            cut_off=outside.cut_off,
            database_time=outside.database_time,
            ledger=ledger,
            logs=logs,
            lifecycle=lifecycle,
            workflows=workflows,
            writers=writers,
            linked=linked,
            resting=resting,
            bell=bell,
            keys=keys,
            permits=Permits(ledger, secrets, lifecycle),
            secrets=build_secrets,
            releasing=releasing,
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
        offers=Offers(release_url=settings.release_url, elsewhere=settings.elsewhere, rules=settings.retention),
        reasons=Reasons(clock, now, linked, resting, builders.away, keys.known),
        drained=keys.note_drained,
    )
    sender = Sender(
        clock=clock,
        now=now,
        random=outside.random,
        ledger=ledger,
        workflows=workflows,
        telling=Telling(
            clock=clock,
            now=now,
            secret_box=outside.secret_box,
            requests=outside.requests,
            mail_sending=outside.mail,
            address_of=_address_of(settings),
        ),
    )
    feed.listen(lambda change: sender.wake())
    asking = Asking(ledger, secrets, outside.ask_program)
    requesting = Requesting(now=now, ledger=ledger, workflows=workflows, asking=asking)
    bell.listen(Topic.DELIVERY, lambda hint: requesting.wake())
    searching = Searching(clock, ledger, archived, outside.search_in_thread, logs.look_at)
    delivering = Delivering(
        ledger=ledger,
        lifecycle=lifecycle,
        log_of=lambda row: DeliveryLog(row, ledger, logs, gists, workflows, writers, now),
        workflows=workflows,
        secrets=secrets,
        files=Discarding(outside.artifact_store, outside.in_thread),
        program=outside.program,
        clock=clock,
        passwords=passwords,
        rejecting=Rejecting(
            clock=clock,
            ledger=ledger,
            lifecycle=lifecycle,
            workflows=workflows,
            secrets=secrets,
            artifact_store=outside.artifact_store,
            program=outside.program,
            passwords=passwords,
        ),
    )
    watching = Watching(
        clock=clock,
        now=now,
        ledger=ledger,
        workflows=workflows,
        asking=asking,
        changed_elsewhere=lifecycle.note_elsewhere,
    )
    scheduling = Scheduling(clock=clock, now=now, ledger=ledger, workflows=workflows, run=lifecycle.run_schedule)
    polling = Polling(
        clock=clock,
        now=now,
        random=outside.random,
        ledger=ledger,
        workflows=workflows,
        linked=linked,
        opened=build_secrets.opened,
        elsewhere=settings.elsewhere,
        take=lifecycle.take_moved,
    )
    tidying = Tidying(clock, ledger, workflows, releasing)
    sealing = Sealing(
        clock=clock,
        now=now,
        ledger=ledger,
        workflows=workflows,
        in_thread=outside.in_thread,
        archived=archived,
        archives=archives,
        kept_since=outside.artifact_store.kept_since,
        kind=settings.seal_to,
        moves=settings.move_sealed,
        share=settings.sealing_share,
    )
    pruning = Pruning(
        clock=clock,
        now=now,
        ledger=ledger,
        in_thread=outside.in_thread,
        workflows=workflows,
        releasing=releasing,
        artifact_store=outside.artifact_store,
        rules=settings.retention,
        linked=linked,
    )
    all_duties = [
        Duty(DELIVERING, lambda: delivering.start(bell), delivering.stop),
        Duty(REQUESTING, requesting.start, requesting.stop),
        Duty("watching", watching.start, watching.stop),
        Duty("scheduling", scheduling.start, scheduling.stop),
        # By a builder that is linked here.
        Duty("polling", polling.start, polling.stop, wanted=lambda: bool(linked.ready())),
        Duty("tidying", tidying.start, tidying.stop),
        Duty("sealing", sealing.start, sealing.stop),
        Duty("pruning", pruning.start, pruning.stop),
        Duty("telling", sender.start, sender.stop),
    ]
    duties = SharedDuties(ledger, outside.database_time, all_duties)
    woken: list[Callable[[], None]] = [
        partial(bell.ring, Topic.QUEUE),
        partial(bell.ring, Topic.DELIVERY),
        sender.wake,
        polling.wake,
    ]
    hearing = Hearing(ledger, lifecycle, gists, woken)
    hearing.on_change(builders.refresh)
    neighbours = Neighbours(
        clock=clock,
        ledger=ledger,
        here=outside.here,
        time=outside.database_time,
        workflows=workflows,
        builders=builders,
        releasing=releasing,
        following=Following(ledger, logs, workflows),
        hearing=hearing,
        duties=duties,
    )
    for topic in (Topic.STATE, Topic.TOKEN, Topic.PROJECT, Topic.BUILDER):
        bell.listen(topic, lambda hint: neighbours.wake())
    bell.listen(Topic.LOG, lambda hint: neighbours.follow())
    return Server(
        outside=outside,
        feed=feed,
        gists=gists,
        logs=logs,
        archived=archived,
        searching=searching,
        diagnosing=Diagnosing(searching),
        grants=grants,
        releasing=releasing,
        lifecycle=lifecycle,
        workflows=workflows,
        writers=writers,
        keys=keys,
        builders=builders,
        dispatch=dispatch,
        delivering=delivering,
        comparing=Comparing(clock, ledger, secrets, outside.artifact_store, outside.program),
        asking=asking,
        requesting=requesting,
        watching=watching,
        scheduling=scheduling,
        polling=polling,
        tidying=tidying,
        sealing=sealing,
        pruning=pruning,
        sender=sender,
        bell=bell,
        hearing=hearing,
        neighbours=neighbours,
        duties=duties,
    )


def _address_of(settings: ServerSettings) -> Callable[[Told, str], At]:
    """Return what says where people find a build, and what it has released if that is served."""

    def address_of(told: Told, served: str) -> At:
        site = settings.release_url(served) if served else ""
        return At(build=f"{settings.uploads_url}/#/builds/{told.build}", site=site, live=served == told.project)

    return address_of


@changes.quiet
def _nothing(connection: Connection) -> None:
    """Carry rings about logs, which nobody need hear of in another way."""
