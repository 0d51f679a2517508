"""
What the ledger's queries return: frozen rows, plain values, no SQLAlchemy. Used by ``server`` and ``web``.

Times are milliseconds since the epoch. An attempt's name is "BUILD-N".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from twistedipc.builds.attempt import Published, StepResult, StoredTool, Tool, Used
from twistedipc.builds.egress import Egress
from twistedipc.builds.environments import PREVIEW, PRODUCTION, Decided, Environment
from twistedipc.builds.hooks.events import BRANCHES, Came, HookEvent
from twistedipc.builds.hooks.settings import HookSettings
from twistedipc.builds.lint import Linted
from twistedipc.builds.logs import Progress
from twistedipc.builds.needs import BUILDER, EITHER, POOL
from twistedipc.builds.origin import Origin
from twistedipc.builds.priorities import Priority, QueueRules
from twistedipc.builds.provenance import Envelope
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.registries import Registry
from twistedipc.builds.remotes import RefsQuestion, pull_number, wants
from twistedipc.builds.retention import Own, Stays
from twistedipc.builds.roles import Allowance, PlatformRole, Role
from twistedipc.builds.secrets import Builds, Context, Steps
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import (
    AttemptState,
    OnLost,
    Phase,
    PublicationState,
    ReleaseState,
    RequestState,
    TellingState,
)
from twistedipc.builds.variables import OfContexts
from twistedipc.builds.versions import Versioning
from twistedipc.outgoing.kinds import KindName
from twistedipc.outgoing.told import Event, Part, Told
from twistedipc.publish.record import Outcome, Step
from twistedipc.publish.targets.registry import ProjectTargets, needed_for


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all rows."""


#: What does something: a caller with a token, a builder, the apiserver by itself, a person at the apiserver's own
#: machine, or somebody who didn't show who they are.
ActorKind = Literal["token", "builder", "apiserver", "machine", "nobody", "hook", "schedule"]


class Actor(Row, frozen=True, kw_only=True):
    """The person or program that does something, for the audit."""

    who: str  # the name of the token, of the builder, of the user of the machine
    kind: ActorKind = "token"
    token: int | None = None  # the token's number; of a session that of the token with which it began, if it did
    person: int | None = None  # the number of the person whose token it is; None: it is no person's
    person_name: str | None = None  # likewise
    address: str | None = None  # from where; None where that isn't known
    request: str | None = None  # the id of the HTTP request, which the log has too

    @property
    def name(self) -> str:
        """Who it is, for people: the person, if it is one."""
        return self.person_name or self.who


#: What the apiserver does by itself.
APISERVER = Actor(who="apiserver", kind="apiserver")


def builder_actor(name: str, address: str | None = None) -> Actor:
    """Return the actor of what a builder does."""
    return Actor(who=name, kind="builder", address=address)


class StatementRow(Row, frozen=True, kw_only=True):
    """What the apiserver has signed about something that an attempt has made."""

    attempt: str
    kind: Literal["release", "package"]
    name: str  # of its subject
    envelope: Envelope
    created: int


class AuditRow(Row, frozen=True, kw_only=True):
    """A line of the audit: who did what, when, to what, and from where."""

    id: int
    time: int
    who: str
    kind: ActorKind | None  # None: of a version that didn't write it down
    token: int | None
    person: int | None  # whose token it was
    person_name: str | None  # the person's name then
    address: str | None
    request: str | None
    action: str  # "project.create"
    subject: str  # what it was done to
    project: str | None  # to which of the projects it belongs
    detail: dict[str, str]


class Hold(Row, frozen=True, kw_only=True):
    """A project was rolled back: until the hold is lifted, no release goes live by itself."""

    who: str  # the token's name
    time: int
    release: int  # the older release that was made live


class Decision(Row, frozen=True, kw_only=True):
    """What a person has decided about an attempt that waited for approval."""

    who: str
    token: int | None
    time: int
    approved: bool
    reason: str = ""
    person: int | None = None  # the number of the person; None: the token is no person's, or it isn't known


class BuildSecretRow(Row, frozen=True, kw_only=True):
    """A secret of a project's builds, without its value."""

    name: str
    steps: Steps
    builds: Builds
    updated: int


class AccessRow(Row, frozen=True, kw_only=True):
    """How a project's repository is read, without what is secret of it."""

    host: str  # `names.host`
    public_key: str  # of the deploy key; "": there is none
    token: bool  # whether there is one
    known_hosts: list[str]  # lines; none: no key of the host is pinned


class ProjectRow(Row, frozen=True, kw_only=True):
    """A project: a repository and how it is built and published."""

    id: int
    name: str
    repository: str
    default_ref: str
    targets: ProjectTargets
    settings: BuildSettings
    environment: dict[str, str]
    of_contexts: OfContexts  # variables that only some builds have, beside ``environment``
    registries: list[Registry]  # from which builds install
    protected: list[str]  # patterns of the refs that may publish for its users: at least one
    runs_on: RunsOn  # the builders that it is bound to
    approval: int  # by how many other people a release is to be approved before it goes live: 0 or 1
    environments: list[Environment]  # beside production and previews
    timeout: float  # seconds
    idle_timeout: float
    on_lost: OnLost
    secrets: list[str]  # the names of the targets' secrets that are set; their values are never in a row
    build_secrets: list[BuildSecretRow]
    access: AccessRow | None  # None: the repository is read without credentials
    head: str  # the branch that the repository's HEAD stood for last; "": not known
    hold: Hold | None  # releases don't go live by themselves
    retention: Own  # its own rules for how long what its builds leave is kept
    queue: QueueRules = QueueRules()  # its own rules for which of its builds begin, and when
    created: int
    updated: int


class BuilderKeyRow(Row, frozen=True, kw_only=True):
    """A key of a builder, without its secret."""

    id: str
    role: str
    created: int
    last_used: int | None
    revoked: int | None
    expires: int | None = None  # None: never


class EndingRow(Row, frozen=True, kw_only=True):
    """Something that is good for a while only."""

    kind: Literal["token", "key"]
    id: str
    of: str  # the token's name, or the builder's
    expires: int


class BuilderRow(Row, frozen=True, kw_only=True):
    """A builder that has, or had, keys of its own."""

    name: str
    pools: list[str]
    shared: bool  # the shared key is good for it
    created: int
    last_linked: int | None  # by a key of its own
    drained: int | None  # since when it is offered nothing, by a person's word; None: it is
    tools: list[StoredTool] | None  # that it has fetched for builds, as it said last; None: it didn't yet
    keys: list[BuilderKeyRow]  # the newest last; also those that have ended


class RunsOn(Row, frozen=True, kw_only=True):
    """The builders that a project is bound to: those of these names, and those in all of the pools. Empty: any."""

    builders: list[str] = []
    pools: list[str] = []

    @property
    def needs(self) -> list[str]:
        """What a builder must have that may take its builds: see `builds.needs`."""
        names = [BUILDER + name for name in self.builders]
        if not self.pools:
            return [EITHER.join(names)] if names else []
        return [EITHER.join([*names, POOL + pool]) for pool in self.pools]


class PersonRow(Row, frozen=True, kw_only=True):
    """A person: somebody who may use the platform, or could once."""

    id: int
    name: str
    email: str | None  # verified; None: not known
    role: PlatformRole  # as an admin has said
    group_role: PlatformRole | None  # by the groups of their last sign-in; None: these say nothing
    created: int
    joined: int | None  # when they signed in first; None: never yet
    disabled: int | None  # since when they may nothing; None: they are active

    @property
    def is_admin(self) -> bool:
        """Whether they may do everything."""
        return "admin" in (self.role, self.group_role)


class Owner(Row, frozen=True, kw_only=True):
    """The person whose a token is, with what they may do."""

    id: int
    name: str
    roles: dict[str, Role] | None  # by project; None: an admin of the platform, who may do everything


class MemberRow(Row, frozen=True, kw_only=True):
    """A member of a project."""

    person: PersonRow
    added: Role | None  # the role that somebody gave them; None: nobody did
    by_groups: Role | None  # the role that they have by the groups of their last sign-in


class TokenRow(Row, frozen=True, kw_only=True):
    """A bearer token, without its secret. A browser's session is a token with an end, and perhaps a parent."""

    id: int
    name: str
    scopes: frozenset[str]  # of "read", "build", "publish", "admin"; each includes those before it
    projects: frozenset[str] | None  # None: all
    created: int
    expires: int | None
    revoked: int | None
    last_used: int | None
    parent: int | None
    service: bool = False  # a program has it, and no person
    address: str | None = None  # of a session: from where it began; None: not known
    agent: str | None = None  # of a session: what the browser calls itself
    session: bool = False  # a browser has it
    person: Owner | None = None  # whose it is; None: no person's

    @property
    def allowance(self) -> Allowance:
        """What may be done with it."""
        return Allowance(self.scopes, self.projects, None if self.person is None else self.person.roles)

    @property
    def who(self) -> str:
        """Who it is that calls with it, for people."""
        return self.name if self.person is None else self.person.name


class GistRow(Row, frozen=True, kw_only=True):
    """The gist of an attempt's log; see `builds.gist`."""

    progress: Progress | None = None  # None: nothing runs of which it was said
    errors: int = 0
    warnings: int = 0
    notices: int = 0


class BuildRow(Row, frozen=True, kw_only=True):
    """A build as asked for; its state is its newest attempt's."""

    id: int
    project: str
    ref: str
    publish: bool
    live: bool  # asked for to go live, whatever its ref
    bump: str  # how the versions of its packages are raised; "": they aren't
    parameters: dict[str, str]
    requested_by: str  # the token's name
    created: int
    state: AttemptState
    reason: str
    attempt: int  # the newest attempt's number, from 1
    commit: str
    subject: str
    author: str
    author_email: str | None  # in small letters; None: not known
    started: int | None
    ended: int | None
    cancel_requested: bool
    preview: str | None  # why the newest attempt publishes nothing for users; as in `AttemptRow`
    environment: str | None  # the newest attempt's; as in `AttemptRow`
    gist: GistRow  # by the newest attempt
    origin: Origin | None  # where it came from; None: a person asked for it
    pinned: int | None  # since when a person wants all of it kept; None: nobody does
    priority: Priority = "normal"


class HookRow(Row, frozen=True, kw_only=True):
    """What a project has of hooks, without the secret."""

    changed: int | None = None  # when the secret was made; None: there is none, and no message is taken
    settings: HookSettings = HookSettings()


class HookDeliveryRow(Row, frozen=True, kw_only=True):
    """A message of a repository's host, and what came of it."""

    id: int
    project: str
    event: HookEvent
    received: int
    outcome: Came
    reason: str  # for people; may be empty
    build: int | None
    decided_by: str | None  # who allowed it, or had it done again
    decided: int | None


class Holder(Row, frozen=True):
    """
    Who has an attempt: a grant of it, and the builder to which it was granted. A lease alone proves nothing, since
    another builder may have seen or guessed it.
    """

    lease: str
    builder: str  # its name


class AttemptRow(Row, frozen=True, kw_only=True):
    """One attempt of a build."""

    name: str  # "BUILD-N"
    build: int
    number: int
    project: str
    state: AttemptState
    reason: str
    lease: str  # "" if none was ever granted
    builder: str  # the builder's name; "" if none
    cancel_reason: str  # "" unless it is to be cancelled
    created: int
    offered: int | None
    started: int | None
    ended: int | None
    commit: str
    resolved: int | None  # when the ref led to the commit; None as long as there is none
    live: bool  # its release may go live, whatever its build's ref
    may_publish: bool  # who asked for it has the scope publish
    preview: str | None  # why it publishes nothing for users; "": it may; None: not offered yet, or an old one
    environment: str | None  # since its offer: of which environment it is; None: not known
    protected: str | None  # the protected ref from which its commit can be reached; "": none; None: not known
    requested_by: str  # the name of the token with which it was asked for
    asker: int | None  # that token's number; None: not known
    asker_person: int | None  # the number of the person whose it was; None: no person's, or not known
    decision: Decision | None  # None: nobody has decided, or nobody had to
    subject: str
    author: str
    author_email: str | None  # likewise
    lines: int | None  # from the end on: how many records the log has
    sha256: str  # "" before the end
    complete: bool  # the log was verified complete
    published: list[Published]
    recognised: list[Finding]  # from the end on: what the project is, and what says so
    used: Used | None  # from the end on: what its steps have used; None: not known
    egress: Egress | None  # from the end on: the hosts that it contacted; None: not known
    linted: Linted | None  # from the end on: what publint says of its packages; None: it made none
    isolation: str | None  # since its acceptance: what isolates its steps; None: not known
    tools: list[Tool]  # from the end on: what its steps were given, as its builder says
    log_removed: int | None  # since when its log isn't kept any more; None: it is
    log_rule: str | None  # the rule of retention by which it was removed
    steps: list[StepResult]
    gist: GistRow
    summary: str  # Markdown, a stranger's; "" if there is none

    @property
    def holder(self) -> Holder:
        """Who has it, or had it at its end."""
        return Holder(self.lease, self.builder)

    @property
    def removal(self) -> str:
        """Why there is nothing of its log any more, for people; "": it is kept."""
        if self.log_removed is None:
            return ""
        day = datetime.fromtimestamp(self.log_removed / 1000, UTC).date().isoformat()
        by = f" by the rule {self.log_rule}" if self.log_rule else ""
        return f"this log was removed on {day}{by}"


class ScheduleRow(Row, frozen=True, kw_only=True):
    """When a project is built without anybody's asking."""

    id: int
    project: str
    name: str
    cron: str  # the expression, as it was entered
    zone: str
    ref: str  # "": the project's own
    default_ref: str  # the project's
    publish: bool
    due: int | None  # None: its time zone isn't known any more
    ran: int | None  # when it was due last, and was looked at; None: never yet
    build: int | None  # the last one that it has made
    reason: str  # why nothing was built the last time; "": it was
    created: int
    updated: int


class DomainRow(Row, frozen=True, kw_only=True):
    """A host name of a project, beside those that the platform gives it."""

    project: str
    name: str  # as `builds.domains` has them
    main: bool  # it is the one under which people know the site; each project that has any has one of these
    redirect: bool  # it leads to the main one, and serves nothing itself
    created: int


class PollScope(Row, frozen=True, kw_only=True, omit_defaults=True):
    """Which refs of a repository a look has seen."""

    question: RefsQuestion = RefsQuestion()
    narrowed: bool = False  # as in `remotes.RefList`
    pulls_from: int = 0  # the same

    def has(self, full: str) -> bool:
        """Return whether a ref would have been seen."""
        if number := pull_number(full):
            return 0 < self.pulls_from <= number
        head = self.question.known_head
        return (full.startswith(BRANCHES) and not self.narrowed) or wants(self.question, full, head)


class PollRow(Row, frozen=True, kw_only=True):
    """How a project's repository is looked at, since its host can't send hooks."""

    project: str
    project_id: int
    every: int  # minutes
    due: int
    since: int
    repository: str  # that was seen; "": none yet
    scope: PollScope
    digest: str
    refs: int
    looked: int | None
    tried: int | None
    failures: int
    reason: str
    builder: str


class ReceiverRow(Row, frozen=True, kw_only=True):
    """To whom news of a project go, without what is secret of it."""

    id: int
    name: str
    kind: KindName
    events: list[Event]
    shown: str  # its address as people are shown it; "": it follows from the repository's
    void: bool  # it was set for another repository than the project has now, and is told nothing
    created: int
    updated: int


class DueRow(Row, frozen=True, kw_only=True):
    """Something that is to be told now."""

    id: int
    receiver: str
    kind: KindName
    part: Part
    tries: int  # with this one
    told: Told
    sealed: bytes  # `storage.receivers.Secret`
    repository: str  # the project's, now
    void: bool  # its receiver was set for another repository
    served: str  # the project, or the name of its preview, at which what the build has released is; "": nowhere


class TellingRow(Row, frozen=True, kw_only=True):
    """Something that was told, or is to be."""

    id: int
    receiver: str
    kind: KindName
    part: Part
    phase: Phase
    event: Event | None
    build: int
    attempt: int
    subject: str
    state: TellingState
    reason: str
    tries: int
    due: int | None  # when it is tried next; None: it has ended
    noticed: int | None
    ended: int | None


class PublicationRow(Row, frozen=True, kw_only=True):
    """The publication of a package that is published from what was stored."""

    attempt: str
    target: str
    position: int  # in the attempt's permit, from 0
    name: str
    version: str
    integrity: str
    tag: str
    settled: bool  # as in `attempt.Package`
    size: int  # 0: its upload wasn't announced yet
    sha256: str  # "": its file isn't in the store
    state: PublicationState
    reason: str
    updated: int
    registry: str = ""  # its address; "": not known yet
    mode: str = ""  # "direct" or "staged"; "": not known yet
    stage: str = ""  # the registry's id of its stage; "": none
    set_tag: str = ""  # the tag under which it goes up first; "": its own
    tag_before: str = ""  # the version that its tag led to before; "": none
    status: str = ""  # at its end: "published" or "already-published"
    notice: str = ""
    approved_by: str = ""
    approved: int | None = None

    @property
    def upload(self) -> str:
        """The name of its upload."""
        return upload_name(self.attempt, self.target, self.position)


class PublicationStepRow(Row, frozen=True, kw_only=True):
    """A step of a publication."""

    step: Step
    detail: str
    began: int
    ended: int  # 0: it is under way, or was when a crash came
    outcome: Outcome | None  # None: not known
    reason: str


class LedgerEntry(Row, frozen=True, kw_only=True):
    """A publication as people look at it: with its steps, and who asked for it."""

    publication: PublicationRow
    build: int
    number: int  # the attempt's
    asked_by: str
    created: int
    steps: list[PublicationStepRow] = []


class PackageRequestRow(Row, frozen=True, kw_only=True):
    """What somebody has asked to be done with a package that is published."""

    id: int
    project: str
    target: str
    package: str
    kind: Literal["promote", "rollback", "deprecate", "undeprecate"]
    tag: str  # that is moved; "": none
    version: str  # "": the one to which the tag led before, which isn't known yet
    message: str
    state: RequestState
    reason: str
    registry: str  # its address; "": not known yet
    before: str  # the version to which the tag led, or the message that there was
    requested_by: str
    created: int
    began: int | None  # None: nothing is done yet
    ended: int | None


class MovedTagRow(Row, frozen=True, kw_only=True):
    """A tag that somebody else has moved."""

    registry: str
    package: str
    tag: str
    version: str  # to which it leads; "": it was removed
    before: str
    noticed: int


def upload_name(attempt: str, target: str, position: int) -> str:
    """Return the name of the upload of a package that an attempt has packed."""
    return f"{attempt}.{target}.{position}"


class Passed(Row, frozen=True):
    """A place in the queue of a project."""

    project: int
    due: int
    build: int


class Place(Row, frozen=True, kw_only=True):
    """Where a build is in the queue, and what its project says of it."""

    before: int = 0  # how many of the same project are due before it
    rules: QueueRules = QueueRules()
    needs: list[str] = []  # which builders the project is bound to, as `builds.needs` has it
    running: int = 0  # how many builds of the project run


class OfferRow(Row, frozen=True, kw_only=True):
    """All that an offer of a queued attempt needs."""

    name: str
    build: int
    project: str
    repository: str
    ref: str
    commit: str
    targets: ProjectTargets  # those that aren't paused and that the build may publish to
    site: bool  # whether the project makes static releases, even if this build makes none
    settings: BuildSettings
    parameters: dict[str, str]
    environment: dict[str, str]
    of: Decided  # of which environment it is
    protected: list[str]  # as in `ProjectRow`
    by_name: bool  # whether the ref's name says that it is protected, so that nothing must be looked up
    registries: list[Registry]
    used: list[str] | None  # the hosts that the last build that succeeded contacted; None: not asked about, or unknown
    secrets: bool  # whether there are secrets for it
    inputs: str  # `builds.inputs`: its variables and secrets
    access: bool  # whether there are credentials for its checkout
    head: bool  # whether its project wants to know what the repository's HEAD stands for
    versioning: Versioning | None = None  # which versions its packages get; None: those of their files
    runs_on: RunsOn = RunsOn()
    caches: int = 0  # how many times what the project's builds keep was cleared
    retention: Own  # its project's own rules
    stranger: bool = False  # it is of a pull request from a fork: it gets no secret, and nothing that builds keep
    timeout: float
    idle_timeout: float
    place: Passed

    @property
    def context(self) -> Context:
        """Of which of the two kinds it is that all builders know."""
        return "production" if self.of.is_production else "preview"

    @property
    def needs(self) -> frozenset[str]:
        """What a builder must have that takes it: see `builds.needs`."""
        needed = {*needed_for(self.targets), *self.runs_on.needs}
        if self.secrets or self.registries or self.access:
            needed.add("secrets")
        if self.settings != BuildSettings():
            needed.add("settings")
        if self.settings.network != "open":
            needed.add("network")
        if self.context == "production" and not self.by_name:
            needed.add("protected")
        if self.caches:
            needed.add("caches")
        if self.of.refs:
            needed.add("environments")
        if self.versioning is not None:
            needed.add("versions")
        if self.stranger:
            needed.add("strangers")
        return frozenset(needed)


class ChunkRow(Row, frozen=True, kw_only=True):
    """A stored run of batches: ``data`` is their JSON, each ended by a newline."""

    first: int
    count: int
    data: bytes
    damaged: bool = False  # what was stored can't be read any more, which isn't noted: `data` is a gap in its place


class ArtifactRow(Row, frozen=True, kw_only=True):
    """What an attempt's build made: an archive in the artifact store."""

    attempt: str
    project: str
    size: int
    sha256: str
    complete: bool
    created: int


class ReleaseRow(Row, frozen=True, kw_only=True):
    """A release of a project to one of its targets, with what decides whether it goes live."""

    id: int
    project: str
    build: int
    number: int  # the attempt's
    attempt: str
    target: str  # the name of the one that keeps it
    ref: str  # the build's
    may_go_live: bool  # whatever its ref
    preview: str | None  # its attempt's, as in `AttemptRow`
    environment: str | None  # likewise
    protected: str | None  # likewise
    approved: bool  # a person has approved it
    made_by: AttemptState  # how its attempt is, or has ended
    resolved: int | None  # when the ref led to the commit; None before the attempt's end
    sha256: str  # of its archive
    files: int
    size: int  # bytes, unpacked
    commit: str
    state: ReleaseState
    created: int
    activated: int | None

    @property
    def is_elsewhere(self) -> bool:
        """Whether it was built for an environment of its own: then it is never what the project's users get."""
        return self.environment not in (None, PRODUCTION, PREVIEW)


class PreviewPasswordRow(Row, frozen=True, kw_only=True):
    """The password by which guests see the previews of a project."""

    hash: str
    changed: int  # since when it holds


class PreviewRow(Row, frozen=True, kw_only=True):
    """The address of a branch, or of a pull request."""

    project: str
    label: str  # as in `builds.labels`
    ref: str  # its full name
    release: ReleaseRow  # to which it leads
    updated: int  # since when
    days: int | None  # after which it leads nowhere, if nothing new comes; None: not before its ref is gone
    stays: Stays | None  # what keeps it, whatever the rules of retention say
