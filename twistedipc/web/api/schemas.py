"""
The HTTP API's JSON, as types: decoding is validating, and the OpenAPI document is made from these. Used by
``web`` (routes) and ``cli`` (the other end).

Times are RFC 3339 strings in UTC with milliseconds. Request bodies forbid unknown fields, so that a misspelt or
forbidden one is an error and not a surprise.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from twistedipc.builds import environments, names, protection
from twistedipc.builds.attempt import Publish, Published, Used
from twistedipc.builds.egress import Egress
from twistedipc.builds.environments import Environment
from twistedipc.builds.gist import Annotations, Progress
from twistedipc.builds.logs import Batch, End
from twistedipc.builds.provenance import Envelope
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.registries import Registry
from twistedipc.builds.roles import PlatformRole, Role
from twistedipc.builds.scopes import TOKEN_DAYS, Scope
from twistedipc.builds.secrets import Builds as ForBuilds
from twistedipc.builds.secrets import SecretValue, Steps
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.states import AttemptState, OnLost, ReleaseState, Tone
from twistedipc.builds.variables import Change

ActorKind = Literal["token", "builder", "apiserver", "machine", "nobody"]
Seconds = Annotated[float, Meta(ge=1, le=86400)]
# What JSON Schema takes for an integer: 60.0 is one too.
WholeSeconds = Annotated[float, Meta(ge=60, le=10 * 366 * 86400, multiple_of=1)]


def _shown(pattern: str, length: int) -> Meta:
    """A rule that `builds.names` holds a value to, in a sentence for people: here it is only for the document."""
    return Meta(extra_json_schema={"pattern": f"^(?:{pattern})$", "maxLength": length})


ProjectName = Annotated[str, _shown(names.PROJECT, 63)]
ProjectNames = Annotated[list[ProjectName], Meta(extra_json_schema={"minItems": 1, "maxItems": 1000})]
Address = Annotated[str, _shown(names.ADDRESS, names.MAX_ADDRESS)]
Ref = Annotated[str, _shown(names.REF, names.MAX_REF)]
ProtectedRefs = Annotated[
    list[Annotated[str, _shown(protection.PATTERN, protection.MAX_PATTERN)]], Meta(max_length=protection.MAX_PATTERNS)
]
Line = Annotated[str, Meta(min_length=1, max_length=200), _shown(names.LINE, 200)]
Variables = Annotated[
    dict[Annotated[str, _shown(names.VARIABLE, 128)], Annotated[str, _shown(r"[^\x00]*", names.MAX_VALUE)]],
    Meta(
        max_length=256,
        description="Not those that change how programs are run, such as PATH, nor where packages come from.",
    ),
]


#: The settings of a project's targets, as `publish.targets.registry` reads them, which gives the document their schema.
Targets = list[dict[str, Any]]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of request bodies."""

    #: Members of which at most one may be given, since they are forms of the same. JSON Schema is told by ``openapi``.
    alternatives: ClassVar[tuple[str, ...]] = ()


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """The base of responses."""


class FlatTargets(Publish, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A project's targets in the older form of a request, which knows two."""


# -- requests --------------------------------------------------------------------------------------------------------


class Settings(BuildSettings, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """
    How a project is built. What is left out is recognised from its files. `builds.settings.checked` holds the values to
    more than the document says.
    """


class NewProject(Request, frozen=True, kw_only=True):
    """The body of a request to add a project."""

    alternatives = ("targets", "publish")

    name: ProjectName
    repository: Address
    default_ref: Ref = names.HEAD  # the repository's own default branch
    targets: Targets | UnsetType = UNSET  # a static release if neither they nor ``publish`` are given
    publish: FlatTargets | UnsetType = UNSET  # the same in its older form
    settings: Settings | UnsetType = UNSET  # how it is built; all is recognised if they aren't given
    environment: Variables = {}
    timeout: Seconds = 3600.0
    idle_timeout: Seconds = 900.0
    on_lost: OnLost | UnsetType = UNSET  # of a build whose builder is gone for good; "lost" if it isn't said
    protected: ProtectedRefs | UnsetType = UNSET  # the default ref alone, if it isn't said
    approval: Annotated[int, Meta(ge=0, le=1)] | UnsetType = UNSET  # 1: another person approves before it is live


class NewEnvironment(Request, frozen=True, kw_only=True, omit_defaults=True):
    """
    An environment beside production and previews. A build is of the first one to whose refs its own belongs, unless it
    is of production.
    """

    name: Annotated[str, _shown(environments.FREE_NAME, 32)]
    refs: Annotated[ProtectedRefs, Meta(min_length=1)]
    approval: Annotated[int, Meta(ge=0, le=1)] = 0


class NewRegistry(Registry, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A registry from which builds install: its address, the secret that is its token, and whose packages it has."""


class ProjectChange(Request, frozen=True, kw_only=True):
    """What is to change in a project; what is left out stays."""

    alternatives = ("targets", "publish")

    repository: Address | UnsetType = UNSET
    default_ref: Ref | UnsetType = UNSET
    targets: Targets | UnsetType = UNSET  # all of them
    publish: FlatTargets | UnsetType = UNSET  # the same in its older form, which leaves other targets alone
    settings: Settings | UnsetType = UNSET  # all of them
    environment: Variables | UnsetType = UNSET  # all that every build has
    variables: Annotated[list[Change], Meta(max_length=256)] | UnsetType = UNSET  # some of them; the others stay
    registries: Annotated[list[NewRegistry], Meta(max_length=20)] | UnsetType = UNSET  # all of them
    runs_on: RunsOn | UnsetType = UNSET  # the builders that it is bound to
    timeout: Seconds | UnsetType = UNSET
    idle_timeout: Seconds | UnsetType = UNSET
    on_lost: OnLost | UnsetType = UNSET
    protected: ProtectedRefs | UnsetType = UNSET  # all of them; none: the default ref alone
    approval: Annotated[int, Meta(ge=0, le=1)] | UnsetType = UNSET
    environments: Annotated[list[NewEnvironment], Meta(max_length=environments.MAX_ENVIRONMENTS)] | UnsetType = UNSET
    # all of them, in the order in which they are looked through


class NewSecret(Request, frozen=True, kw_only=True):
    """
    A secret's value. It is never shown again. A target's (npm_token) may say by ``registry`` where it is meant to be
    sent: it isn't set if the project doesn't publish there any more. Of any other, which is a variable of the builds,
    ``steps`` and ``builds`` say which of them are given it: all, if they aren't said.
    """

    value: SecretValue
    registry: Annotated[str, Meta(max_length=names.MAX_ADDRESS)] | UnsetType = UNSET
    steps: Steps | UnsetType = UNSET
    builds: Annotated[ForBuilds, _shown(environments.NAME, 32)] | UnsetType = UNSET


class KnownHosts(Request, frozen=True, kw_only=True):
    """Lines of a known_hosts file, or what ``ssh-keyscan`` prints."""

    lines: Annotated[str, Meta(min_length=1, max_length=64 * 1024)]


class NewBuild(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a request for a build."""

    ref: Ref | None = None  # None: the project's default
    publish: bool = True
    live: bool = False  # its release is to go live though it isn't of the project's own ref
    parameters: Variables = {}


class NewToken(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a request for a token."""

    name: Line
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4)]
    projects: ProjectNames | None = None  # None: all
    expires_in: WholeSeconds | UnsetType | None = UNSET  # null: never; `scopes.TOKEN_DAYS` if it isn't said
    service: bool = False  # a program is to have it: no browser can sign in with it


def expiry_of(expires_in: float | UnsetType | None, now: int) -> int | None:
    """Return when a token that is made ``now`` expires, of a request's ``expires_in``; None: never."""
    if expires_in is None:
        return None
    seconds = TOKEN_DAYS * 86_400 if isinstance(expires_in, UnsetType) else int(expires_in)
    return now + seconds * 1000


Pools = Annotated[list[Annotated[str, _shown(names.PROJECT, 63)]], Meta(max_length=20)]
NodeName = Annotated[str, _shown(names.NODE, 64)]


class NewBuilder(Request, frozen=True, kw_only=True):
    """The body of a request for a builder's first key."""

    name: NodeName
    pools: Pools = []  # to which projects can be bound: "trusted"
    expires_in: WholeSeconds | None = None  # of its key; null: it never expires


class NewKey(Request, frozen=True, kw_only=True, omit_defaults=True):
    """What is said of one more key of a builder."""

    expires_in: WholeSeconds | UnsetType | None = UNSET  # null: never; if it isn't said, as its newest key


class BuilderChange(Request, frozen=True, kw_only=True):
    """What is to change of a builder."""

    pools: Pools  # all of them


class RunsOn(Request, frozen=True, kw_only=True):
    """The builders that a project is bound to: those of these names, and those of the pool. Neither: all."""

    builders: Annotated[list[NodeName], Meta(max_length=20)] = []
    pool: Annotated[str, _shown(f"(?:{names.PROJECT})?", 63)] = ""


class NewVisit(Request, frozen=True, kw_only=True):
    """What a release's host has told the browser to ask for."""

    host: Annotated[str, Meta(min_length=1, max_length=300)]
    challenge: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    path: Annotated[str, Meta(pattern="^/", max_length=4000)]


#: The most characters of a refusal's reason.
MAX_REFUSAL = 200


class Refusal(Request, frozen=True, kw_only=True, omit_defaults=True):
    """Why a build isn't approved."""

    reason: Annotated[str, Meta(max_length=MAX_REFUSAL)] = ""


class NewOwnToken(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a request for a token of one's own, which may no more than one may oneself."""

    name: Line
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4)]
    projects: ProjectNames | None = None  # None: all
    expires_in: WholeSeconds | UnsetType | None = UNSET  # null: never; `scopes.TOKEN_DAYS` if it isn't said


Email = Annotated[str, _shown(names.EMAIL, names.MAX_EMAIL)]


class NewPerson(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a request to invite a person."""

    name: Line
    email: Email | None = None  # that is known to be theirs
    role: PlatformRole = "member"


class PersonChange(Request, frozen=True, kw_only=True, omit_defaults=True):
    """What is to change in a person's account; what is left out stays."""

    email: Email | UnsetType | None = UNSET  # null: it isn't known any more
    role: PlatformRole | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET  # true: all of their tokens and sessions end


class NewMember(Request, frozen=True, kw_only=True):
    """A person, and the role that they are to have in a project."""

    person: Line  # by name
    role: Role


class Acceptance(Request, frozen=True, kw_only=True, omit_defaults=True):
    """An invitation's code, which is good once, for a token."""

    code: Annotated[str, Meta(min_length=1, max_length=200)]
    name: Line | UnsetType = UNSET  # of the token; the person's own, if it isn't said


class SignIn(Request, frozen=True, kw_only=True):
    """A browser's sign-in by a token, or by an invitation's code; the answer sets a cookie."""

    token: Annotated[str, Meta(min_length=1, max_length=200)]


# -- responses -------------------------------------------------------------------------------------------------------


class Health(Response, frozen=True, kw_only=True):
    """Whether the service can do its work."""

    status: Literal["ok", "draining", "degraded"]
    version: str
    builders: int  # linked now
    isolation: list[
        str
    ] = []  # what isolates builds on these: "bubblewrap", "landlock", "none", or "" for those that take none
    database: Literal["ok", "failing"]


class OfContexts(Response, frozen=True, kw_only=True):
    """Variables that only some builds have, or have with other values than all."""

    production: dict[str, str | None] = {}
    previews: dict[str, str | None] = {}
    environments: dict[str, dict[str, str | None]] = {}  # by name


class BuildSecret(Response, frozen=True, kw_only=True):
    """A secret of a project's builds. Its value is never shown."""

    name: str
    steps: Steps  # which steps are given it
    builds: ForBuilds  # of which builds: all, production, previews, or those of an environment
    updated: datetime


class BoundTo(Response, frozen=True, kw_only=True):
    """The builders that a project is bound to: those of these names, and those of the pool."""

    builders: list[str] = []
    pool: str = ""


class BuilderKey(Response, frozen=True, kw_only=True):
    """A key of a builder. Its secret is never shown again."""

    id: str
    role: str
    created: datetime
    last_used: datetime | None  # to the minute
    revoked: datetime | None  # null: it isn't
    expires: datetime | None = None  # null: never


class LinkOfBuilder(Response, frozen=True, kw_only=True):
    """The link of a builder, as it is now."""

    since: datetime
    address: str
    key: str  # the id of the key that has proven it; "": it is the shared one, or there is none
    slots: int
    draining: bool
    version: str = ""  # of its program; "": it doesn't say
    isolation: str = ""  # what keeps its builds apart, as it says; "": it doesn't, or nothing does


class Builder(Response, frozen=True, kw_only=True):
    """A builder."""

    name: str
    pools: list[str]
    keys: list[BuilderKey]  # of its own, the newest last; none: it links by the shared key
    created: datetime | None  # null: it has no key of its own
    last_linked: datetime | None  # by a key of its own
    link: LinkOfBuilder | None  # null: it isn't linked


class Builders(Response, frozen=True, kw_only=True):
    """All builders."""

    builders: list[Builder]


class BuilderWithKey(Response, frozen=True, kw_only=True):
    """A builder with a new key, which is shown once."""

    builder: Builder
    key: str  # what its key file is to hold: the id, a colon, the secret
    dial: list[str]  # endpoints at which the apiserver can be dialled by it
    listen: list[str]  # endpoints at which it may listen, since the apiserver dials them


class HostKey(Response, frozen=True, kw_only=True):
    """A key of a repository's host: as known_hosts has it, and as people compare it."""

    line: str
    fingerprint: str


class RepositoryAccess(Response, frozen=True, kw_only=True):
    """How a private repository is read. Nothing of it is secret."""

    host: str  # for which all of it is; it is void once the repository has another
    public_key: str  # of the deploy key, to be added to the repository at its host; "": there is no key
    fingerprint: str  # of that
    token: bool  # whether there is a git_token
    host_keys: list[HostKey]  # what the host may show; none: what it shows at the first contact is pinned


class Project(Response, frozen=True, kw_only=True):
    """A project."""

    name: str
    repository: str
    default_ref: str
    targets: Targets = []
    publish: Publish  # what its older form can say of the targets
    settings: BuildSettings = BuildSettings()  # how it is built; what is left out is recognised
    environment: dict[str, str | None]  # the values are for the scope admin; for all others they are null
    of_contexts: OfContexts = OfContexts()  # likewise
    registries: list[Registry] = []  # from which builds install
    runs_on: BoundTo = BoundTo()  # the builders that take its builds; neither names nor a pool: all
    timeout: float
    idle_timeout: float
    on_lost: OnLost = "lost"
    approval: int = 0  # 1: another person than who asked approves what is built before it goes live
    environments: list[Environment] = []  # beside production and previews, in the order of precedence
    protected: list[str] = []  # the refs that may publish for its users, as patterns: main, release/*, tags/v*
    secrets: list[str]  # names only, of the targets'
    build_secrets: list[BuildSecret] = []
    access: RepositoryAccess | None = None  # null: the repository is read without credentials
    head: str = ""  # the branch that the repository's HEAD stood for last; "" until a build has found out
    release_url: str  # where its live release is served; it may have none yet
    addresses: dict[str, str] = {}  # target -> where what it publishes is found; not those that can't say
    created: datetime
    updated: datetime
    notices: list[str] = []  # what to know of the change that was just made: secrets that it made void, for one


class TargetField(Response, frozen=True, kw_only=True):
    """What can be set of a target, as an input of a form."""

    name: str  # of the member of its settings
    kind: Literal["text", "list", "number", "switch"]
    required: bool
    help: str
    example: str  # what its value is, in a word


class KnownSecret(Response, frozen=True, kw_only=True):
    """A secret that a project needs to publish to a target."""

    name: str
    help: str


class KnownTarget(Response, frozen=True, kw_only=True):
    """A target to which projects can publish here. ``name`` is the ``type`` of its settings."""

    name: str
    what: str  # what is published there, after "no" or "an"
    default: bool  # a new project has it
    fields: list[TargetField]
    secrets: list[KnownSecret]


class KnownTargets(Response, frozen=True, kw_only=True):
    """All targets to which projects can publish here."""

    targets: list[KnownTarget]


class Projects(Response, frozen=True, kw_only=True):
    """All projects that the caller may see."""

    projects: list[Project]


class Step(Response, frozen=True, kw_only=True):
    """A step of an attempt."""

    index: int
    name: str
    command: str
    outcome: Literal["running", "succeeded", "failed", "cancelled", "timed_out"]
    exit_code: int | None
    started: datetime
    ended: datetime | None


class PersonName(Response, frozen=True, kw_only=True):
    """A person, by number and name."""

    id: int
    name: str


class Person(Response, frozen=True, kw_only=True):
    """A person's account."""

    id: int
    name: str
    email: str | None  # verified, by an admin or by who signs people in
    role: PlatformRole  # what they are, as an admin or their groups say
    state: Literal["invited", "active", "disabled"]
    by_groups: bool  # whether they are an admin by the groups of their last sign-in
    created: datetime
    joined: datetime | None  # when they signed in first


class People(Response, frozen=True, kw_only=True):
    """All people, by name."""

    people: list[Person]


class Invitation(Response, frozen=True, kw_only=True):
    """A code for one sign-in, which isn't shown again, and where it is good."""

    person: Person
    code: str
    url: str  # of the page, which takes the code from it
    expires: datetime


class Member(Response, frozen=True, kw_only=True):
    """A member of a project."""

    person: PersonName
    role: Role  # the higher one of those that they have
    added: Role | None  # that somebody gave them
    by_groups: Role | None  # that they have by the groups of their last sign-in
    active: bool = True  # false: their account is disabled


class Members(Response, frozen=True, kw_only=True):
    """The members of a project, by name. Admins of the platform need not be among them."""

    members: list[Member]


class Decision(Response, frozen=True, kw_only=True):
    """What a person has decided about an attempt that waited for approval."""

    by: str
    time: datetime
    approved: bool
    reason: str


class ChangedFile(Response, frozen=True, kw_only=True):
    """A file, with its bytes in what is live and in what would be."""

    path: str
    before: int | None  # null: it isn't there
    after: int | None  # likewise


class PackageChanges(Response, frozen=True, kw_only=True):
    """
    What would change if a stored package was published. The lists have the first files only, the counts are of all.
    """

    target: str
    name: str
    version: str
    tag: str
    integrity: str
    size_packed: int  # bytes of its file
    published: str  # the version with which it is compared; "" if none is published
    unknown: str  # why that isn't known; "" if it is. All files count as new then, as far as they were looked at
    added_count: int
    removed_count: int
    changed_count: int
    size_before: int  # bytes of all files
    size: int
    added: list[ChangedFile]
    removed: list[ChangedFile]
    changed: list[ChangedFile]
    notes: list[str]  # what package.json says otherwise: install scripts, dependencies, entry points, licence


class Changes(Response, frozen=True, kw_only=True):
    """
    What would change if a release went live, and if packages were published. The lists have the first files only, the
    counts are of all.
    """

    live: int | None  # the release with which it is compared; null: none is live
    added_count: int
    removed_count: int
    changed_count: int
    size_before: int  # bytes of all files
    size: int
    added: list[ChangedFile]
    removed: list[ChangedFile]
    changed: list[ChangedFile]
    release: bool = True  # whether there is a release; without one, all of the above is empty
    packages: list[PackageChanges] = []  # that wait for an approval


class Attempt(Response, frozen=True, kw_only=True):
    """One attempt of a build."""

    number: int
    state: AttemptState
    tone: Tone = Tone.WAITING  # how the state is shown; servers before 0.2 don't say
    reason: str
    builder: str
    commit: str
    created: datetime
    offered: datetime | None
    started: datetime | None
    ended: datetime | None  # null until it has ended
    lines: int | None
    sha256: str
    complete: bool
    steps: list[Step]
    published: list[Published]
    recognised: list[Finding] = []  # from the end on: what the project is, and which file and line say so
    used: Used | None = None  # from the end on: the most that its steps used at a time; null if it isn't known
    egress: Egress | None = None  # from the end on: the hosts that its steps contacted; null if nobody looked
    isolation: str | None = None  # what isolates its steps from the builder's machine; null: no builder said it yet
    release: int | None
    release_state: ReleaseState | None
    release_why: str  # why its release isn't live; "" if it is, or if there is none
    decision: Decision | None = None  # of a person, if it had to be approved
    progress: Progress | None
    annotations: Annotations
    summary: str  # Markdown of the build's own, not to be trusted; "" if there is none


class Build(Response, frozen=True, kw_only=True):
    """A build in a listing, or one that was just asked for."""

    id: int
    project: str
    ref: str
    publish: bool
    live: bool  # it was asked for to go live, whatever its ref
    preview: str | None = None  # why it publishes nothing for users; "": it may; null: it isn't known (yet)
    environment: str | None = None  # of the project, that it is of; null: it isn't known (yet)
    parameters: dict[str, str]
    requested_by: str
    state: AttemptState
    tone: Tone = Tone.WAITING  # how the state is shown; servers before 0.2 don't say
    reason: str
    attempt: int
    commit: str
    subject: str
    author: str
    author_person: PersonName | None = None  # whose verified address the commit's author has; null: nobody's here
    cancel_requested: bool
    created: datetime
    started: datetime | None
    ended: datetime | None  # null until it has ended
    progress: Progress | None  # of the newest attempt, while it runs
    annotations: Annotations  # likewise


WaitingCode = Literal[
    "no_builder", "draining", "slots", "next", "resting", "offered", "away", "syncing", "upload", "approval"
]


class Waiting(Response, frozen=True, kw_only=True):
    """
    Why a build doesn't go on now. ``no_builder``: none is linked, or none that can publish to the project's targets.
    ``draining``: those that are take nothing new. ``slots``: all are taken. ``next``: one is free, and is asked.
    ``resting``: the builders that are free have declined it, or have not answered, and are asked again a little later.
    ``offered``: a builder is being asked. ``away``: its builder is not linked; it is given up at ``until``.
    ``approval``: another person than who asked is to approve it.
    ``syncing``: its builder has just come back. ``upload``: what was built can't be uploaded, which is tried again.
    """

    code: WaitingCode
    text: str  # for people
    position: int | None  # in the queue, from 1, while it is queued
    until: datetime | None


class BuildDetail(Build, frozen=True, kw_only=True):
    """One build, with all its attempts, oldest first."""

    attempts: list[Attempt]
    release_url: str | None  # where to look at it, if it is (or was) released
    position: int | None  # while it is queued: how many are before it
    waiting: Waiting | None = None  # why it doesn't go on now


class Builds(Response, frozen=True, kw_only=True):
    """A page of builds, newest first. ``next`` is the ``before`` of the next page; None at the end."""

    builds: list[Build]
    next: int | None


class AuditLine(Response, frozen=True, kw_only=True):
    """
    Who did what, when, to what, and from where. ``kind``: what ``who`` names, null in lines of older versions;
    ``token``: its number; ``person``: whose token it was, with the name of then; ``request``: as in the header
    X-Request-Id and in the log; ``detail`` never holds a secret.
    """

    id: int
    time: datetime
    who: str
    kind: ActorKind | None
    token: int | None
    person: PersonName | None = None
    address: str | None
    request: str | None
    action: str
    subject: str
    project: str | None
    detail: dict[str, str]


class Audit(Response, frozen=True, kw_only=True):
    """
    A page of the audit, newest first. ``next`` is the ``before`` of the next page; None at the end. A page that was
    asked for with ``after`` is oldest first, and ``next`` is the ``after`` of the next page.
    """

    lines: list[AuditLine]
    next: int | None


class LogPage(Response, frozen=True, kw_only=True):
    """
    A part of a log. ``batches`` are messages as on the WebSocket, ``after`` is the last record's number in them,
    and ``end`` is there when the log has ended and all of it is up to ``after``.
    """

    attempt: int
    batches: list[Batch]
    after: int
    end: End | None


class Statement(Response, frozen=True, kw_only=True):
    """What the apiserver has signed about a release or a package."""

    attempt: str
    kind: Literal["release", "package"]
    name: str  # of its subject
    created: datetime
    envelope: Envelope  # as `twistedipc verify` takes it


class Statements(Response, frozen=True, kw_only=True):
    """What the apiserver has signed about what a build has made, oldest first."""

    statements: list[Statement]


class SigningKey(Response, frozen=True, kw_only=True):
    """The public key by which the apiserver signs; ``keyid``: the SHA-256 of its DER form."""

    keyid: str
    pem: str


class Release(Response, frozen=True, kw_only=True):
    """A release to one of the project's targets."""

    id: int
    target: str = "static"  # servers before 0.2 have no other
    build: int
    attempt: int
    state: ReleaseState
    tone: Tone = Tone.WAITING  # how the state is shown; servers before 0.2 don't say
    why: str  # why it isn't live; "" if it is
    ref: str
    commit: str
    resolved: datetime | None  # when the ref led to the commit: the later, the newer
    sha256: str
    files: int
    size: int
    created: datetime
    activated: datetime | None


class Visit(Response, frozen=True, kw_only=True):
    """Where the browser goes on."""

    url: str


class Hold(Response, frozen=True, kw_only=True):
    """The project was rolled back: no release of it goes live by itself until the hold is lifted."""

    by: str
    since: datetime
    release: int  # the older one that was made live


class Releases(Response, frozen=True, kw_only=True):
    """A project's releases, newest first."""

    releases: list[Release]
    url: str  # where the live static release is served
    addresses: dict[str, str] = {}  # target -> where its live release is found; not those that can't say
    held: Hold | None


class Resumed(Response, frozen=True, kw_only=True):
    """The project's releases go live by themselves again."""

    was_held: bool
    release: Release | None  # the newest one that waited: it is live now
    releases: list[Release] = []  # the newest one that waited of each target: they are live now


class Token(Response, frozen=True, kw_only=True):
    """A token, without its secret."""

    id: int
    name: str
    scopes: list[Scope]
    projects: list[str] | None
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    last_used: datetime | None
    service: bool = False  # a program has it
    person: PersonName | None = None  # whose it is; null: no person's


class CreatedToken(Token, frozen=True, kw_only=True):
    """A new token, with its secret, which isn't shown again."""

    token: str


class Tokens(Response, frozen=True, kw_only=True):
    """All tokens."""

    tokens: list[Token]


class Identity(Response, frozen=True, kw_only=True):
    """Who the caller is."""

    name: str
    scopes: list[Scope]
    projects: list[str] | None
    expires: datetime | None = None
    person: PersonName | None = None  # whose token it is; null: no person's
    roles: dict[str, Role] | None = None  # the person's, by project; null: nothing but the scopes and projects counts


class Session(Response, frozen=True, kw_only=True):
    """A browser that is signed in."""

    id: int
    name: str  # of the token that it has signed in with, or of the person
    token: int  # likewise; its own number, if it has signed in without one
    person: PersonName | None = None  # whose it is; null: no person's
    created: datetime
    last_used: datetime | None
    expires: datetime | None  # at the latest: it ends earlier if nothing is asked for
    address: str | None  # from where it began
    agent: str | None  # what the browser calls itself, not to be trusted
    current: bool  # the one that asks


class Sessions(Response, frozen=True, kw_only=True):
    """Browsers that are signed in, oldest first."""

    sessions: list[Session]


class ProviderButton(Response, frozen=True, kw_only=True):
    """A provider of OpenID Connect that signs people in."""

    name: str
    url: str  # where a browser begins


class SignInWays(Response, frozen=True, kw_only=True):
    """How people can sign in, beside by a token, and what a failure's code in the page's address means."""

    provider: ProviderButton | None
    failures: dict[str, str]


class Ticket(Response, frozen=True, kw_only=True):
    """A one-use ticket for one WebSocket (``?ticket=``), for browsers, which can't send a header with it."""

    ticket: str
    expires: datetime
