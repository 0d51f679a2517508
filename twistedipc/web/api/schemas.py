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

from twistedipc.builds import environments, names, protection, versions
from twistedipc.builds.attempt import Publish, Published, Used
from twistedipc.builds.cron import MAX_CRON
from twistedipc.builds.egress import Egress
from twistedipc.builds.environments import Environment
from twistedipc.builds.gist import Annotations, Progress
from twistedipc.builds.hooks.events import Came, What
from twistedipc.builds.hooks.settings import HookSettings
from twistedipc.builds.logs import Batch, End
from twistedipc.builds.origin import Origin
from twistedipc.builds.priorities import MAX_AT_ONCE, MAX_RULES, Priority, PriorityRule
from twistedipc.builds.provenance import Envelope
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.registries import Registry
from twistedipc.builds.remotes import MAX_EVERY
from twistedipc.builds.retention import MAX_COUNT, MAX_DAYS, Own
from twistedipc.builds.retention import Kind as RemovalKind
from twistedipc.builds.roles import PlatformRole, Role
from twistedipc.builds.scopes import TOKEN_DAYS, Scope
from twistedipc.builds.secrets import Builds as ForBuilds
from twistedipc.builds.secrets import SecretValue, Steps
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.site.kinds import Kind
from twistedipc.builds.states import (
    AttemptState,
    OnLost,
    Phase,
    PublicationState,
    ReleaseState,
    RequestState,
    TellingState,
    Tone,
)
from twistedipc.builds.variables import Change
from twistedipc.finding.messages import LogHit, SearchedLog
from twistedipc.outgoing.kinds import KindName
from twistedipc.outgoing.told import EVENTS, Event, Part
from twistedipc.publish.compared import Level

ActorKind = Literal["token", "builder", "apiserver", "machine", "nobody", "hook", "schedule"]
Seconds = Annotated[float, Meta(ge=1, le=86400)]
# What JSON Schema takes for an integer: 60.0 is one too.
WholeSeconds = Annotated[float, Meta(ge=60, le=10 * 366 * 86400, multiple_of=1)]


def _shown(pattern: str, length: int) -> Meta:
    """A rule that `builds.names` holds a value to, in a sentence for people: here it is only for the document."""
    return Meta(extra_json_schema={"pattern": f"^(?:{pattern})$", "maxLength": length})


ProjectName = Annotated[str, _shown(names.PROJECT, 63)]
NewProjectName = Annotated[str, _shown(names.NEW_PROJECT, 63)]
ProjectNames = Annotated[list[ProjectName], Meta(extra_json_schema={"minItems": 1, "maxItems": 1000})]
Address = Annotated[str, _shown(names.ADDRESS, names.MAX_ADDRESS)]
PackageName = Annotated[str, _shown(names.PACKAGE, names.MAX_PACKAGE)]
Ref = Annotated[str, _shown(names.REF, names.MAX_REF)]
ProtectedRefs = Annotated[
    list[Annotated[str, _shown(protection.PATTERN, protection.MAX_PATTERN)]], Meta(max_length=protection.MAX_PATTERNS)
]
Bump = Annotated[str, _shown(f"(?:{versions.BUMP})?", 50)]
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

    name: NewProjectName
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


class NewReceiver(Request, frozen=True, kw_only=True, omit_defaults=True):
    """
    To whom a project's news go. What is left out stays, if there is a receiver of this name and kind. A new address
    needs its secret again: a token that was set before goes nowhere else.
    """

    kind: KindName
    where: Annotated[str, Meta(min_length=1, max_length=names.MAX_ADDRESS)] | UnsetType = UNSET
    secret: SecretValue | UnsetType = UNSET  # the token; what events are signed with, which is made if it isn't given
    events: Annotated[list[Event], Meta(min_length=1, max_length=len(EVENTS))] | UnsetType = UNSET  # all


class NewSchedule(Request, frozen=True, kw_only=True, omit_defaults=True):
    """When a project is to be built without anybody's asking."""

    cron: Annotated[str, Meta(min_length=1, max_length=MAX_CRON)]  # as `builds.cron` reads it
    zone: Annotated[str, Meta(min_length=1, max_length=100)] = "UTC"  # of its times: "Europe/Berlin"
    ref: Ref | UnsetType = UNSET  # the project's own, if it isn't said
    publish: bool = True  # its builds publish what a push to the ref would


class NewDomain(Request, frozen=True, kw_only=True, omit_defaults=True):
    """How a project uses a domain of its own."""

    main: bool = False  # it is the one under which people know the site, in the place of the one before
    redirect: bool = False  # it leads to the main one, and serves nothing itself


class NewPoll(Request, frozen=True, kw_only=True, omit_defaults=True):
    """How often a project's repository is to be looked at, since its host can't send hooks."""

    every: Annotated[int, Meta(ge=1, le=MAX_EVERY)] | UnsetType = UNSET  # minutes; as it was, or 5, if it isn't said


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
    queue: QueueChange | UnsetType = UNSET  # which of its builds begin, and when
    timeout: Seconds | UnsetType = UNSET
    idle_timeout: Seconds | UnsetType = UNSET
    on_lost: OnLost | UnsetType = UNSET
    protected: ProtectedRefs | UnsetType = UNSET  # all of them; none: the default ref alone
    approval: Annotated[int, Meta(ge=0, le=1)] | UnsetType = UNSET
    environments: Annotated[list[NewEnvironment], Meta(max_length=environments.MAX_ENVIRONMENTS)] | UnsetType = UNSET
    # all of them, in the order in which they are looked through
    retention: Retention | UnsetType = UNSET  # all of its own rules
    confirm: bool | UnsetType = UNSET  # these rules may leave nothing; false if it isn't said


KeptDays = Annotated[int, Meta(ge=0, le=MAX_DAYS)] | Literal["forever"]
KeptCount = Annotated[int, Meta(ge=1, le=MAX_COUNT)] | Literal["forever"]


class Retention(Request, frozen=True, kw_only=True):
    """
    For how many days what a project's builds leave is kept, or how many of it are. What isn't said is as the apiserver
    has it. See docs/operating.md, "What is kept, and for how long".
    """

    logs: KeptDays | UnsetType = UNSET
    artifacts: KeptDays | UnsetType = UNSET  # the archives of what was built
    unpublished: KeptDays | UnsetType = UNSET  # the same of builds that publish nothing
    previews: KeptDays | UnsetType = UNSET  # of branches, since the newest release of each
    releases: KeptCount | UnsetType = UNSET  # so many that were live, and so many others
    builds: KeptDays | UnsetType = UNSET  # with all that they have
    most_builds: KeptCount | UnsetType = UNSET  # older ones go
    messages: KeptDays | UnsetType = UNSET  # of hosts, and what was told to others
    caches: KeptDays | UnsetType = UNSET  # since a build last used them; builders have limits of their own beside it
    newest: Annotated[int, Meta(ge=0, le=MAX_COUNT)] | UnsetType = UNSET  # so many builds keep all they have
    last_success: bool | UnsetType = UNSET  # so does the last build of each ref that succeeded


class PruneRequest(Request, frozen=True, kw_only=True):
    """The body of a request to remove what isn't kept any more."""

    confirm: bool = False  # not even the newest of something may be left


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
    bump: Bump = ""  # how the versions of its packages are raised; "": they are those of their package.json
    parameters: Variables = {}
    priority: Priority | UnsetType = UNSET  # in the queue; what the project's rules say, if it isn't said


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

    pools: Pools | UnsetType = UNSET  # all of them
    drained: bool | UnsetType = UNSET  # whether it is offered nothing more; what it builds goes on


class RunsOn(Request, frozen=True, kw_only=True):
    """The builders that a project is bound to: those of these names, and those in all of the pools. Neither: all."""

    builders: Annotated[list[NodeName], Meta(max_length=20)] = []
    pools: Pools = []


class NewPriority(Request, frozen=True, kw_only=True):
    """Which priority builds of some refs have, unless the request for one says another."""

    ref: Annotated[str, _shown(protection.PATTERN, protection.MAX_PATTERN)]
    priority: Priority


class QueueChange(Request, frozen=True, kw_only=True):
    """What is to change of what a project says of its queue; what is left out stays."""

    at_once: Annotated[int, Meta(ge=1, le=MAX_AT_ONCE)] | UnsetType | None = UNSET  # null: as many as there are slots
    paused: bool | UnsetType = UNSET  # whether none of its builds begins; what runs goes on
    priorities: Annotated[list[NewPriority], Meta(max_length=MAX_RULES)] | UnsetType = UNSET  # all of them


class NewPreviewPassword(Request, frozen=True, kw_only=True):
    """The password by which guests see a project's previews."""

    password: Annotated[
        str, Meta(min_length=names.MIN_PASSWORD, max_length=names.MAX_PASSWORD, pattern=r"^[^\x00-\x1f\x7f]*$")
    ]


class NewVisit(Request, frozen=True, kw_only=True):
    """What a release's host has told the browser to ask for."""

    host: Annotated[str, Meta(min_length=1, max_length=300)]
    challenge: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    path: Annotated[str, Meta(pattern="^/", max_length=4000)]


#: The most characters of a refusal's reason.
MAX_REFUSAL = 200


#: What registries take for a one-time password: six or eight digits, a code for recovery.
Otp = Annotated[str, Meta(pattern="^[0-9A-Za-z-]{4,100}$")]


class WithPassword(Request, frozen=True, kw_only=True, omit_defaults=True):
    """The base of bodies with a one-time password. It is in no ``repr``, and nothing keeps it."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class Approval(WithPassword, frozen=True, kw_only=True, omit_defaults=True):
    """That a build is approved."""

    otp: Otp | UnsetType = UNSET  # for what is staged in a registry that wants one


class Refusal(WithPassword, frozen=True, kw_only=True, omit_defaults=True):
    """Why a build isn't approved."""

    reason: Annotated[str, Meta(max_length=MAX_REFUSAL)] = ""
    otp: Otp | UnsetType = UNSET  # with which what is staged in a registry is taken back


class NewPackageRequest(WithPassword, frozen=True, kw_only=True, omit_defaults=True):
    """
    What is to be done with a package that is published. ``promote``: the tag is to lead to the version. ``rollback``:
    the tag is to lead to the version to which it led before, or to the one that is said. ``deprecate``: who installs
    the version is told the message. ``undeprecate``: no longer. ``untag``: the tag, which canaries have had, is
    removed.
    """

    kind: Literal["promote", "rollback", "deprecate", "undeprecate", "untag"]
    tag: Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9._-]{0,99}$")] = "latest"  # of all but deprecations
    version: Annotated[str, Meta(pattern=r"^[0-9][0-9A-Za-z.+-]{0,255}$")] | UnsetType = UNSET
    message: Annotated[str, Meta(max_length=1000)] = ""
    otp: Otp | UnsetType = UNSET  # for a registry that wants one


class Password(WithPassword, frozen=True, kw_only=True):
    """A person's one-time password for the registry."""

    otp: Otp


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
    no_builder_since: datetime | None = None  # when the last one went, or the service began; null: one is linked
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
    """The builders that a project is bound to: those of these names, and those that are in all of the pools."""

    builders: list[str] = []
    pools: list[str] = []


class Queue(Response, frozen=True, kw_only=True):
    """What a project says of its queue."""

    at_once: int | None = None  # so many of its builds run at a time at most; null: as many as there are slots
    paused: datetime | None = None  # since when none of its builds begins; null: they do
    priorities: list[PriorityRule] = []  # of refs; the first one that matches counts


class QueueCancelled(Response, frozen=True, kw_only=True):
    """What became of a request to cancel all that is queued of a project."""

    cancelled: int  # so many builds


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


class BuilderTool(Response, frozen=True, kw_only=True):
    """A Node or a package manager that a builder has fetched."""

    name: str
    version: str


class Builder(Response, frozen=True, kw_only=True):
    """A builder."""

    name: str
    pools: list[str]
    keys: list[BuilderKey]  # of its own, the newest last; none: it links by the shared key
    created: datetime | None  # null: it has no key of its own
    last_linked: datetime | None  # by a key of its own
    drained: datetime | None  # since when it is offered nothing, by a person's word; null: it is
    # what it has fetched for builds, as it said last; null: it didn't yet (or on no link that goes on, without a key of
    # its own), or is of a version that doesn't
    tools: list[BuilderTool] | None = None
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


class Receiver(Response, frozen=True, kw_only=True):
    """To whom a project's news go. What is secret of it is shown to nobody."""

    name: str
    kind: KindName
    events: list[Event]  # those that it is told; the repository's host is told all that concerns it
    where: str  # the address, as much of it as may be shown; "": the API of the repository's host
    void: bool  # it was set for another repository than the project has now, and is told nothing
    created: datetime
    updated: datetime
    secret: str | None = None  # what events are signed with, if it was just made: it is shown once


class Receivers(Response, frozen=True, kw_only=True):
    """To whom a project's news go."""

    receivers: list[Receiver]


class Telling(Response, frozen=True, kw_only=True):
    """Something that was told to a receiver, or is to be."""

    id: int
    receiver: str
    kind: KindName
    part: Part  # what of the build it is
    phase: Phase  # of the build, then
    event: Event | None  # null: it isn't an event
    build: int
    attempt: int
    state: TellingState
    tone: Tone
    reason: str  # why it wasn't told at the last try, or a note; may be empty
    tries: int
    due: datetime | None  # when it is tried next; null: it has ended, or is next
    ended: datetime | None  # null: not yet, or not known


class Tellings(Response, frozen=True, kw_only=True):
    """What was told of a project, newest first. ``next`` is the ``before`` of the next page; null on the last one."""

    tellings: list[Telling]
    next: int | None


class NeededSecret(Response, frozen=True, kw_only=True):
    """Something that is needed to publish to a project's targets."""

    target: str
    name: str
    help: str
    place: str  # where it goes
    set: bool  # also of what nobody sets
    audience: str = ""  # for whom the apiserver signs it, for each attempt; "": it is a secret of the project


class Kept(Response, frozen=True, kw_only=True):
    """The rules of retention that hold for a project, its own and the apiserver's; null: for ever, or any number."""

    logs: int | None = None  # days
    artifacts: int | None = None  # days
    unpublished: int | None = None  # days
    previews: int | None = None  # days
    releases: int | None = None
    builds: int | None = None  # days
    most_builds: int | None = None
    messages: int | None = None  # days
    caches: int | None = None  # days since a build last used them
    newest: int = 10
    last_success: bool = True


class FreedAmount(Response, frozen=True, kw_only=True):
    """How much of something was removed."""

    count: int
    size: int  # bytes, as far as they are known


class PlannedRemoval(Response, frozen=True, kw_only=True):
    """What would be removed of one kind in one project."""

    project: str  # "": of no project, or of one that was deleted
    kind: RemovalKind
    count: int
    size: int  # bytes; 0 where that isn't known before
    rules: list[str]  # those by which it goes: "logs = 90 days"
    stays: dict[str, int]  # of what was looked at: why it stays -> how many
    whole: bool  # false: there is more, and only so many were looked at
    nothing_left: bool  # not even the newest would be left


class PruneRun(Response, frozen=True, kw_only=True):
    """One time of removing what isn't kept any more."""

    by: str
    began: datetime
    ended: datetime | None  # null: it goes on
    freed: dict[str, FreedAmount]  # by kind
    files: FreedAmount  # archives, on the apiserver's disk
    given_back: int  # bytes by which the database's file has become smaller
    problem: str  # why it ended early, or couldn't do all; "" if it did


class CachesKept(Response, frozen=True, kw_only=True):
    """What builders remove by themselves: caches. How much of it there is, only they know."""

    projects: dict[str, int] = {}  # those that have a rule -> days since a build last used what is kept
    unaware: list[str] = []  # builders that are linked and of an older version, which keep to limits of their own alone


class Pruning(Response, frozen=True, kw_only=True):
    """What isn't kept any more, and the last run that removed such things."""

    removes: bool  # there are rules at all
    whole: bool  # false: it took too long, and not all projects were looked at
    plan: list[PlannedRemoval]
    caches: CachesKept = CachesKept()
    run: PruneRun | None  # that goes on, or the last one since the apiserver's start
    busy: bool = False  # a run goes on that isn't of the caller's projects alone


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
    runs_on: BoundTo = BoundTo()  # the builders that take its builds; neither names nor pools: all
    queue: Queue = Queue()
    timeout: float
    idle_timeout: float
    on_lost: OnLost = "lost"
    approval: int = 0  # 1: another person than who asked approves what is built before it goes live
    environments: list[Environment] = []  # beside production and previews, in the order of precedence
    protected: list[str] = []  # the refs that may publish for its users, as patterns: main, release/*, tags/v*
    secrets: list[str]  # names only, of the targets'
    needs: list[NeededSecret] = []  # what is needed to publish, whether it is set or not
    build_secrets: list[BuildSecret] = []
    access: RepositoryAccess | None = None  # null: the repository is read without credentials
    head: str = ""  # the branch that the repository's HEAD stood for last; "" until a build has found out
    retention: Own = Own()  # its own rules for how long what its builds leave is kept
    kept: Kept = Kept()  # those that hold for it
    release_url: str  # where its live release is served; it may have none yet
    domains: list[str] = []  # of its own, the main one first
    badge: str = ""  # where a picture is of how its newest build has ended; whoever has the address can see it
    atom: str = ""  # likewise, a feed of its builds
    addresses: dict[str, str] = {}  # target -> where what it publishes is found; not those that can't say
    created: datetime
    updated: datetime
    notices: list[str] = []  # what to know of the change that was just made: secrets that it made void, for one


class TargetField(Response, frozen=True, kw_only=True):
    """What can be set of a target, as an input of a form."""

    name: str  # of the member of its settings
    label: str  # what people call it
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


class NewestBuild(Response, frozen=True, kw_only=True):
    """A project's newest build, in short."""

    id: int
    ref: str
    state: AttemptState
    tone: Tone
    commit: str
    subject: str
    requested_by: str
    created: datetime
    ended: datetime | None


class ListedProject(Response, frozen=True, kw_only=True):
    """How a project stands, in short."""

    name: str
    repository: str
    release_url: str  # where its live release is served
    released: bool  # whether there is one
    newest: NewestBuild | None  # null: nothing was built yet


class Overview(Response, frozen=True, kw_only=True):
    """How the projects stand that the caller may see, by their names."""

    projects: list[ListedProject]


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


class PackageRemark(Response, frozen=True, kw_only=True):
    """Something about a package that somebody who approves it should see."""

    level: Level  # danger: it can harm those who install it, or break them though its version doesn't say so
    about: str  # script, file, dependency, command, entry point, field, publint; there may come others
    name: str  # of what: a script, a path, a package, a command; "" if it is of no one thing
    before: str | None  # its value in what is published; null: it isn't there, or there is none
    after: str | None  # its value in the package; likewise
    text: str  # a clause that says it all


class LogProof(Response, frozen=True, kw_only=True):
    """Whether a log is all that a build has printed."""

    records: int
    sha256: str  # as in docs/protocol.md
    complete: bool  # the apiserver has counted and hashed all of its records: both are as its runner said


class ContactedHost(Response, frozen=True, kw_only=True):
    """A host that a build contacted, or was refused."""

    host: str
    port: int  # 0: only its name was asked for
    step: str  # the one that was the first
    refused: str  # why; "": it was contacted
    new: bool | None  # whether the build before it that succeeded didn't contact it; null: there is none to compare


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
    notes: list[str]  # the texts of the remarks
    remarks: list[PackageRemark] = []  # the most dangerous first
    more_remarks: int = 0  # how many found no room
    publint: str = ""  # its version, if it has looked at the package
    publint_why: str = ""  # why it hasn't; "": it has, or the server is older


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
    log: LogProof | None = None  # of the attempt that has made it
    hosts: list[ContactedHost] = []  # that this attempt contacted, as its builder says: those that are new come first
    hosts_said: str = ""  # what is missing in that; "": nothing


class PublicationStep(Response, frozen=True, kw_only=True):
    """What was done with a package: written down before it was done, and after."""

    step: str  # preflight, upload, stage, approve, reject, verify, tag, untag, undo_tag
    detail: str  # what it was done with: a tag, a version, a stage's id
    began: datetime
    ended: datetime | None  # null: it is under way, or was when the apiserver stopped
    outcome: Literal["", "done", "already", "refused", "failed"]  # "": not known
    reason: str


class Publication(Response, frozen=True, kw_only=True):
    """A version of a package that an attempt publishes by the apiserver, and what became of it."""

    build: int
    attempt: int
    target: str
    position: int  # in the order in which the attempt's are published, from 0
    name: str
    version: str
    state: PublicationState
    tone: Tone  # how the state is shown
    reason: str  # why it is so; may be empty
    notice: str  # what isn't as it should be; may be empty
    status: str  # at its end: published or already-published
    registry: str  # its address; "": not known yet
    mode: str  # direct or staged; "": not known yet
    integrity: str
    size: int  # bytes of its file; 0: not known yet
    tag: str  # that is to lead to it
    tag_before: str  # the version that its tag led to before; "": none, or not known yet
    set_tag: str  # the tag under which it goes up first; "": its own
    stage: str  # the registry's id of its stage; "": none
    asked_by: str
    approved_by: str  # "": nobody, or nobody had to
    approved: datetime | None
    created: datetime
    updated: datetime  # when it came into its state
    steps: list[PublicationStep] = []


class MovedTag(Response, frozen=True, kw_only=True):
    """A tag that was set from here, and that somebody else has moved since."""

    registry: str
    tag: str
    version: str  # to which it leads; "": it was removed
    before: str
    noticed: datetime
    text: str  # the same for people


class PackageRequest(Response, frozen=True, kw_only=True):
    """What somebody has asked to be done with a package that is published, and what became of it."""

    id: int
    package: str
    kind: str  # promote, rollback, deprecate or undeprecate
    tag: str  # that is moved; "": none
    version: str  # "": the one to which the tag led before, which isn't known yet
    before: str  # the version to which the tag led, or the message that there was; "": none, or not known yet
    message: str
    state: RequestState
    tone: Tone  # how the state is shown
    reason: str  # why it is so; may be empty
    registry: str  # its address; "": not known yet
    asked_by: str
    created: datetime
    began: datetime | None
    ended: datetime | None


class PackageInBrief(Response, frozen=True, kw_only=True):
    """A package of a project, with its newest publications, newest first."""

    name: str
    publications: list[Publication]  # without their steps
    moved: list[MovedTag] = []  # tags that somebody else has moved


class PackageList(Response, frozen=True, kw_only=True):
    """A page of a project's packages, by name. ``next`` is the ``after`` of the next page; null at the end."""

    packages: list[PackageInBrief]
    next: str | None


class PackageHistory(Response, frozen=True, kw_only=True):
    """A page of a package's publications, newest first. ``next`` is the next page's ``before``; null at the end."""

    name: str
    publications: list[Publication]
    next: str | None
    tags: dict[str, str] = {}  # to which versions its tags lead, as far as the apiserver knows
    moved: list[MovedTag] = []  # tags that somebody else has moved
    requests: list[PackageRequest] = []  # the newest of those about it, newest first


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
    complete: bool  # the log was, at its end
    log_removed: datetime | None = None  # since when it isn't kept any more; null: it is
    log_rule: str | None = None  # by which rule of retention
    steps: list[Step]
    published: list[Published]
    recognised: list[Finding] = []  # from the end on: what the project is, and which file and line say so
    used: Used | None = None  # from the end on: the most that its steps used at a time; null if it isn't known
    egress: Egress | None = None  # from the end on: the hosts that its steps contacted; null if nobody looked
    isolation: str | None = None  # what isolates its steps from the builder's machine; null: no builder said it yet
    archive: int | None = None  # bytes of what it has made and can be downloaded, as it is stored; null: nothing
    release: int | None
    release_state: ReleaseState | None
    release_why: str  # why its release isn't live; "" if it is, or if there is none
    decision: Decision | None = None  # of a person, if it had to be approved
    progress: Progress | None
    annotations: Annotations
    summary: str  # Markdown of the build's own, not to be trusted; "" if there is none


WaitingCode = Literal[
    "no_builder",
    "draining",
    "slots",
    "next",
    "resting",
    "offered",
    "away",
    "syncing",
    "upload",
    "approval",
    "turn",
    "unsatisfiable",
    "paused",
    "limit",
]


class Waiting(Response, frozen=True, kw_only=True):
    """
    Why a build doesn't go on now. ``no_builder``: none is linked, or none that can publish to the project's targets.
    ``draining``: those that are take nothing new. ``slots``: all are taken. ``next``: one is free, and is asked.
    ``resting``: the builders that are free have declined it, or have not answered, and are asked again a little later.
    ``offered``: a builder is being asked. ``away``: its builder is not linked; it is given up at ``until``.
    ``turn``: an earlier build of the same ref goes on, and the project wants one after the other. ``approval``: another
    person than who asked is to approve it.
    ``unsatisfiable``: there is no builder to which its project is bound. ``paused``: the project's queue is. ``limit``:
    as many builds of the project run as may.
    ``syncing``: its builder has just come back. ``upload``: what was built can't be uploaded, which is tried again.
    """

    code: WaitingCode
    text: str  # for people
    position: int | None  # among the project's builds in the queue, from 1, while it is queued
    until: datetime | None


class Build(Response, frozen=True, kw_only=True):
    """A build in a listing, or one that was just asked for."""

    id: int
    project: str
    ref: str
    publish: bool
    live: bool  # it was asked for to go live, whatever its ref
    bump: str = ""  # how the versions of its packages are raised; "": they aren't
    canary: str = ""  # in the answer to its request: the tag of previews of its packages; "": it publishes none
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
    origin: Origin | None = None  # where it came from: a push, a pull request, a schedule; null: a person asked for it
    pinned: datetime | None = None  # since when a person wants all of it kept; null: the rules of retention decide
    priority: Priority = "normal"  # in the queue
    waiting: Waiting | None = None  # why it doesn't go on now; a listing says it if it is asked to


class BuildDetail(Build, frozen=True, kw_only=True):
    """One build, with all its attempts, oldest first."""

    attempts: list[Attempt]
    release_url: str | None  # where to look at it, if it is (or was) released
    previews: list[str] = []  # addresses of what it made: its ref's (unless a newer build has that by now), its own
    position: int | None  # while it is queued: how many of the project are before it
    publications: list[Publication] = []  # of its newest attempt, by the apiserver: by target, in their order
    usual: int | None = None  # milliseconds: the median of the project's last 9 that succeeded before it; null: none


class Builds(Response, frozen=True, kw_only=True):
    """A page of builds, newest first. ``next`` is the ``before`` of the next page; None at the end."""

    builds: list[Build]
    next: int | None


class Hook(Response, frozen=True, kw_only=True):
    """Where the host of a project's repository sends its messages."""

    url: str
    secret: datetime | None  # when it was made; null: there is none, and no message is taken
    settings: HookSettings


class HookSecret(Response, frozen=True, kw_only=True):
    """The secret of a hook, which is shown once."""

    url: str
    secret: str


class HookAnswer(Response, frozen=True, kw_only=True):
    """What came of a message, for its sender."""

    message: int  # its number here
    outcome: Came
    reason: str
    build: int | None


class HookMessage(Response, frozen=True, kw_only=True):
    """
    A message of a repository's host. ``outcome``: ``built`` (``build`` is of its commit); ``ignored``, for the
    ``reason``; ``waits``, for a member's leave to build a stranger's commit; ``gone`` (what it says is gone was put an
    end to).
    """

    id: int
    host: str  # which kind it is, for people
    delivery: str  # the id that the host gave it
    what: What
    about: str  # the same in a few words, for people
    ref: str  # its full name; "": it is about none
    commit: str
    number: int  # of the pull request; 0: none
    fork: bool
    title: str
    sender: str
    url: str
    received: datetime
    outcome: Came
    reason: str
    build: int | None
    decided_by: str | None  # who allowed it, or had it done again
    decided: datetime | None


class HookMessages(Response, frozen=True, kw_only=True):
    """The newest messages of a project's host, newest first."""

    messages: list[HookMessage]


class Schedule(Response, frozen=True, kw_only=True):
    """When a project is built without anybody's asking."""

    name: str
    cron: str
    zone: str
    ref: str
    publish: bool
    due: datetime | None  # null: never, since this machine doesn't know its time zone any more
    ran: datetime | None  # when it was due last, and was looked at; null: never yet
    build: int | None  # the last one that it has made
    reason: str  # why nothing was built the last time; "": it was
    created: datetime
    updated: datetime


class Schedules(Response, frozen=True, kw_only=True):
    """A project's schedules, by name."""

    schedules: list[Schedule]


class Domain(Response, frozen=True, kw_only=True):
    """A host name of a project, beside those that the platform gives."""

    name: str  # in small letters and ASCII
    readable: str  # the same in its own script: bücher.example of xn--bcher-kva.example
    url: str
    main: bool  # it is the one under which people know the site
    redirect: bool  # it leads to the main one
    reason: str  # why nothing is served there; "": it is served
    certificate_ends: datetime | None = None  # of the apiserver's own for it; null: it has none, or a proxy has
    created: datetime


class Domains(Response, frozen=True, kw_only=True):
    """A project's own domains, the main one first."""

    domains: list[Domain]


class Poll(Response, frozen=True, kw_only=True):
    """
    How a project's repository is looked at. What builds of what has moved there is said by the settings of the hook.
    ``looked``: when it was seen last, ``failures``: how many looks in a row have failed since then, ``reason``: why
    the last one has, or has to wait.
    """

    on: bool
    every: int  # minutes
    due: datetime | None  # when it is looked at next; null: it isn't on
    looked: datetime | None  # null: never yet
    refs: int  # how many branches and tags were seen
    builder: str  # which one has looked last; "": none
    failures: int
    reason: str
    settings: HookSettings


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


class OutlineStep(Response, frozen=True, kw_only=True):
    """A step, and which records it has: null where that isn't known, or (``last``) while it runs."""

    index: int
    name: str
    outcome: Literal["running", "succeeded", "failed", "cancelled", "timed_out"]
    exit_code: int | None
    started: datetime
    ended: datetime | None
    first: int | None
    last: int | None


class OutlineGroup(Response, frozen=True, kw_only=True):
    """A group begins with this record; "": the one before it ends."""

    record: int
    step: int
    time: datetime
    name: str


class OutlineAnnotation(Response, frozen=True, kw_only=True):
    """A remark of the build's on its sources. Long texts are cut; the record has all of it."""

    record: int
    step: int
    level: str  # notice, warning or error
    message: str
    file: str
    line: int  # 0: none
    column: int = 0  # 0: none


class OutlineError(Response, frozen=True, kw_only=True):
    """Something says here that it has failed."""

    record: int
    step: int
    what: str  # an annotation, a notice, or the end of a step
    message: str


class AnnotationCounts(Response, frozen=True, kw_only=True):
    """How many annotations a log has, by level."""

    errors: int
    warnings: int
    notices: int


class LogOutline(Response, frozen=True, kw_only=True):
    """
    Where things are in a log, as far as it has come. Each list is in the log's order and has what comes first: 64
    steps, 300 groups, 100 annotations and 50 errors at most.
    """

    attempt: int
    records: int
    bytes: int  # of the log as it came, in JSON
    complete: bool  # it has ended, and the server has checked that it has all records
    steps: list[OutlineStep]
    groups: list[OutlineGroup]
    annotation_counts: AnnotationCounts
    annotations: list[OutlineAnnotation]
    errors: list[OutlineError]


class FailedStep(Response, frozen=True, kw_only=True):
    """The step that failed, and which records are its own: null where that isn't known."""

    index: int
    name: str
    command: str
    outcome: Literal["running", "failed", "cancelled", "timed_out"]
    exit_code: int | None
    first: int | None
    last: int | None


class LogLine(Response, frozen=True, kw_only=True):
    """A line of a log as people see it, cut if it is long."""

    record: int
    text: str


class FailureExplanation(Response, frozen=True, kw_only=True):
    """What a failure means that is known, and what its authors can do."""

    cause: str
    cure: str


class NewInFailure(Response, frozen=True, kw_only=True):
    """
    What the step has printed that the same step of the project's last success (``against``, an attempt) has not.
    Numbers, times, hashes and names of temporary files are taken for the same. ``count``: how many kinds of lines, of
    which ``lines`` has the first. ``complete``: all of both steps was compared.
    """

    against: str
    lines: list[LogLine]
    count: int
    complete: bool


class BuildFailure(Response, frozen=True, kw_only=True):
    """
    Why an attempt failed, in 8 KiB at most. ``error`` is the line that says what is wrong, and ``around`` has it and
    what is near it; null if no line says anything. ``omitted``: sentences on what was left out, or not looked at.
    """

    build: int
    attempt: int
    project: str
    state: AttemptState
    reason: str
    commit: str
    step: FailedStep | None
    error: LogLine | None
    explanation: FailureExplanation | None
    around: list[LogLine]
    annotations: list[OutlineAnnotation]
    new: NewInFailure | None
    log: LogProof
    omitted: list[str]


class LogSearchPage(Response, frozen=True, kw_only=True):
    """
    What a search in logs has found. ``logs``: what became of each log that has a match, or that couldn't be searched as
    a whole; the sums are over all that were searched. ``complete``: everything that was asked for was searched, so
    ``matches`` is exact. ``next``: behind which record, or in a project behind which attempt, another search goes on to
    find more; null: there is no more.
    """

    hits: list[LogHit]
    logs: list[SearchedLog]
    matches: int
    searched: int
    missing: int
    complete: bool
    next: int | str | None


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


class PackageStatement(Response, frozen=True, kw_only=True):
    """What the apiserver has signed about a package, and what its ledger has of that publication."""

    project: str
    build: int
    attempt: int
    integrity: str  # as it was packed
    registry: str  # to which it was published; "": not known
    status: Literal["published", "already-published"]
    requested_by: str
    approved_by: str  # "": nobody had to
    created: datetime
    envelope: Envelope  # as `twistedipc verify` takes it


class PackageProvenance(Response, frozen=True, kw_only=True):
    """What the apiserver has signed about one version of a package, newest first."""

    name: str
    version: str
    statements: list[PackageStatement]


class SigningKey(Response, frozen=True, kw_only=True):
    """The public key by which the apiserver signs; ``keyid``: the SHA-256 of its DER form."""

    keyid: str
    pem: str


class OpenIDConfiguration(Response, frozen=True, kw_only=True):
    """How ID tokens of this apiserver are checked. The names are those of OpenID Connect Discovery 1.0."""

    issuer: str
    jwks_uri: str
    response_types_supported: list[str]
    subject_types_supported: list[str]
    id_token_signing_alg_values_supported: list[str]
    scopes_supported: list[str]
    claims_supported: list[str]


class IssuerKeys(Response, frozen=True, kw_only=True):
    """A set of public keys (RFC 7517)."""

    keys: list[dict[str, str]]


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


class FileSizes(Response, frozen=True, kw_only=True):
    """The bytes of a file, and how many are sent of it; null where that isn't known (yet)."""

    size: int
    gzip: int | None  # to browsers that take gzip: the file's own bytes if compressing it saves nothing
    br: int | None  # to those that take brotli


class FileDifference(Response, frozen=True, kw_only=True):
    """A file that is new, changed or gone."""

    path: str  # in the newer release; of one that is gone, in the older one
    was: str  # its path in the older release, where that differs by a hash in the name; ""
    kind: Kind
    before: FileSizes | None  # null: it is new
    after: FileSizes | None  # null: it is gone


class KindTotal(Response, frozen=True, kw_only=True):
    """The files of a kind in one release."""

    files: int
    size: int  # bytes
    gzip: int | None  # bytes that are sent; null: not known of all


class KindTotals(Response, frozen=True, kw_only=True):
    """The files of a kind in both releases."""

    kind: Kind
    before: KindTotal
    after: KindTotal


class ReleaseDifference(Response, frozen=True, kw_only=True):
    """
    What a release has other than another one. A file counts as changed, and not as one that is gone and one that is
    new, if its path is the same but for a hash of its content.
    """

    before: Release | None  # null: none is live, so that all files are new
    after: Release
    added: int
    changed: int
    removed: int
    files: list[FileDifference]  # the heaviest changes first, at most 500
    totals: list[KindTotals]  # of the kinds that one of them has


class Preview(Response, frozen=True, kw_only=True):
    """The address of a branch or a pull request, which leads to its newest build that succeeded."""

    url: str
    ref: str  # its full name
    build: int
    release: int
    commit: str
    since: datetime
    ends: datetime | None  # when it leads nowhere any more, if nothing new comes; null: when its ref is gone


class Promoted(Response, frozen=True, kw_only=True):
    """What comes of a promotion: the release that is live now, or the build that makes one for production."""

    release: Release | None
    build: Build | None  # of the same commit
    why: str = ""  # why there is another build, in words after "since"; "": there is none


class Visit(Response, frozen=True, kw_only=True):
    """Where the browser goes on."""

    url: str


class Hold(Response, frozen=True, kw_only=True):
    """The project was rolled back: no release of it goes live by itself until the hold is lifted."""

    by: str
    since: datetime
    release: int  # the older one that was made live


class DiskUse(Response, frozen=True, kw_only=True):
    """What a project's releases take of the apiserver's disk."""

    releases: int  # that can be made live
    contents: int  # of all files that are kept, each counted once
    size: int  # bytes of these contents


class Releases(Response, frozen=True, kw_only=True):
    """A page of a project's releases, newest first, and what is live, whichever page that is on."""

    releases: list[Release]
    next: int | None = None  # the ``before`` of the next page; null: there is none
    live: list[Release] = []  # of each target that has a live one
    url: str  # where the live static release is served
    addresses: dict[str, str] = {}  # target -> where its live release is found; not those that can't say
    previews: list[Preview] = []  # of its branches and pull requests, the newest first
    password_since: datetime | None = None  # since when previews have their password; null: they have none
    held: Hold | None
    disk: DiskUse | None = None  # of static releases; null if there are none, or if it can't be said


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
