"""
What builder and apiserver say to one another over the link. Bottom layer; ``docs/protocol.md`` has the transcripts.

One class is one message; its docstring is its meaning, its fields are its grammar, ``tag`` is its ``type`` on the
wire. `FROM_BUILDER` and `FROM_APISERVER` are the two directions. An end answers any other type with an error.

The order of an attempt::

    apiserver                                   builder
    Offer            ─────────────────────────►           (committed: offered)
                     ◄─────────────────────────  Accept   (spec.json is durable)
    Go               ─────────────────────────►           (committed: accepted)
                     ◄─────────────────────────  Started
                     ◄─────────────────────────  call WantSecrets  → Secrets
                     ◄─────────────────────────  Log …
                     ◄─────────────────────────  CheckedOut
    Ack …            ─────────────────────────►           (committed)
                     ◄─────────────────────────  call WantPermit   → Permit
                     ◄─────────────────────────  call WantContents → StoredContents
                     ◄─────────────────────────  call WantUpload   → UploadGrant
                     ◄─────────────────────────  Final
    FinalAck         ─────────────────────────►           (committed: terminal) or Resend

Beside that order, of no attempt::

    call ListRefs        ─────────────────────►  → RefList
    call DescribeCommits ─────────────────────►  → CommitList
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from twistedipc.builds import names
from twistedipc.builds.attempt import NPM, FoundCommit, LiveFiles, Package, Permit, Publish, Result, Secrets, StoredTool
from twistedipc.builds.logs import Batch
from twistedipc.builds.registries import Registry
from twistedipc.builds.remotes import CommitList, CommitsQuestion, RefList, RefsQuestion, Remote
from twistedipc.builds.secrets import Context
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.versions import Versioning


class Message(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag_field="type"):
    """The base of all messages: tagged by ``type``, immutable; unknown fields are ignored."""


#: What a builder may name at all: anything else isn't looked up, but refused with its message.
AttemptName = Annotated[str, msgspec.Meta(pattern=rf"\A{names.ATTEMPT}\Z")]
Lease = Annotated[str, msgspec.Meta(pattern=rf"\A{names.LEASE}\Z")]


#: The most attempts that a builder can say it holds, and the most features that it can name.
MAX_HELD = 10_000
MAX_FEATURES = 1000

#: The most tools that a builder can say it has.
MAX_TOOLS = 200

Short = Annotated[str, msgspec.Meta(max_length=100)]


# -- the builder says ------------------------------------------------------------------------------------------------


class HeldAttempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt of which the builder has a folder."""

    attempt: AttemptName
    lease: Lease
    phase: Literal["accepted", "running", "ended"]
    next: int  # the number after the last record in its journal


class Sync(Message, frozen=True, kw_only=True, tag="sync"):
    """A call, the first message on a new link: all attempts that this builder holds. Answered by `Orders`."""

    slots: int  # how many attempts the builder runs at a time
    draining: bool = False  # the builder takes no offers
    attempts: Annotated[list[HeldAttempt], msgspec.Meta(max_length=MAX_HELD)]
    # of `FEATURES`, and of later versions: what it can do beside what every builder can
    features: Annotated[list[Short], msgspec.Meta(max_length=MAX_FEATURES)] = []
    version: Short = ""  # of the builder's program; "": it doesn't say
    isolation: Short | None = None  # by what its builds are isolated, as `isolation.Kind` has it; "": by nothing, so it
    # declines offers; None: it is of a version that isolates none


#: A feature that no build needs: the builder follows projects' rules for how long what builds keep stays unused.
CACHES_KEPT = "caches-kept"

#: What a builder of this version can do: ``caches``, leave alone what was kept before it was cleared; `CACHES_KEPT`;
#: ``environments``, look whether a commit can be reached from a ref that leads to an environment, and build nothing
#: for it without; ``secrets``, ask for the secrets of an attempt; ``settings``, build as the project's settings say,
#: which an older one doesn't read; ``protected``, look which protected ref a commit can be reached from, and publish
#: nothing for a project's users without one; ``network``, keep the steps of a build from the network, which one can't
#: whose steps aren't isolated; ``stored``, upload packages that the apiserver publishes; ``strangers``, keep what the
#: build of a stranger's pull request writes from all others; ``versions``, give packages the versions that are wanted;
#: ``id-tokens``, publish by an ID token that a registry takes; ``scopes``, publish to the registries of scopes. Beside
#: these it has a feature for each target that not every builder knows: `publish.targets.registry.FEATURE`.
FEATURES = (
    "caches",
    CACHES_KEPT,
    "environments",
    "id-tokens",
    "network",
    "protected",
    "remotes",
    "scopes",
    "secrets",
    "settings",
    "stored",
    "strangers",
    "versions",
)


class Status(Message, frozen=True, kw_only=True, tag="status"):
    """The builder's slots have changed, or the builder began to drain."""

    slots: int
    draining: bool = False


class Tools(Message, frozen=True, kw_only=True, tag="tools"):
    """
    Which tools the builder has fetched and keeps for builds, for people: all of them. It is sent after each sync, and
    again when they have changed, and isn't answered. Only to an apiserver that has the feature `TOOLS`.
    """

    tools: Annotated[list[StoredTool], msgspec.Meta(max_length=MAX_TOOLS)]


class Accept(Message, frozen=True, kw_only=True, tag="accept"):
    """The builder has written the attempt down and will start it when told to."""

    attempt: AttemptName
    lease: Lease


class Decline(Message, frozen=True, kw_only=True, tag="decline"):
    """The builder doesn't take the attempt; it goes back into the queue."""

    attempt: AttemptName
    lease: Lease
    reason: str


class Started(Message, frozen=True, kw_only=True, tag="started"):
    """The attempt's runner has been spawned."""

    attempt: AttemptName
    lease: Lease
    time: int  # milliseconds since the epoch


class CheckedOut(Message, frozen=True, kw_only=True, tag="checked_out"):
    """
    The commit that the attempt builds is known: for people, who would see it only at the attempt's end. It is sent once
    on each link, and isn't answered. Only to an apiserver that has the feature `CHECKED_OUT`. ``resolved_ago`` is as in
    `Final`, and ``found.resolved`` isn't sent.
    """

    attempt: AttemptName
    lease: Lease
    found: FoundCommit
    resolved_ago: int | None = None


class Log(Message, frozen=True, kw_only=True, tag="log"):
    """
    The next records of an attempt, or gaps where records are lost. Holes are refused with `Resend`; what overlaps is
    trimmed by number. At most the granted credit of unacknowledged bytes (of the batches' JSON) may be under way.
    """

    attempt: AttemptName
    lease: Lease
    batches: list[Batch]


class UnreadLog(Message, frozen=True, kw_only=True, tag="log"):
    """A `Log` with batches that can't be read: of an unknown kind, or malformed."""

    attempt: AttemptName
    lease: Lease
    batches: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # UNSET: not even their list can be read
    complaint: str = ""  # what is wrong


class Final(Message, frozen=True, kw_only=True, tag="final"):
    """
    The attempt has ended and all its records were sent. Answered by `FinalAck` once the apiserver has an equal,
    complete log and has committed the end; by `Resend` if records are missing.

    ``resolved_ago``: milliseconds since the ref was found to lead to the commit. It is an age, so that the clocks of
    two machines are never compared. Without it the attempt has resolved nothing, or its builder can't tell.
    """

    attempt: AttemptName
    lease: Lease
    result: Result
    resolved_ago: int | None = None


class WantPermit(Message, frozen=True, kw_only=True, tag="want_permit"):
    """
    A call: may the packages be published to the target? Answered by `Permit`, the same however often it is asked;
    refused with ``not_yet`` while the apiserver's record of the log doesn't show that all steps are over: ask again
    later.
    """

    attempt: AttemptName
    lease: Lease
    package: Package
    also: list[Package] = []  # as in `PermitWanted`
    target: str = NPM

    @property
    def packages(self) -> list[Package]:
        """All of them."""
        return [self.package, *self.also]


class WantSecrets(Message, frozen=True, kw_only=True, tag="want_secrets"):
    """
    A call: the secrets of an attempt that has begun. Answered by `Secrets`, the same however often it is asked, as long
    as the apiserver's record of the log shows no step: what asks later may be the build. ``repository`` is the one that
    the attempt is built from, for which the secrets must have been set; ``uses`` are those of `Offer.asks`.
    """

    attempt: AttemptName
    lease: Lease
    repository: str
    uses: list[str]


class WantContents(Message, frozen=True, kw_only=True, tag="want_contents"):
    """
    A call: which contents of the project's releases does the apiserver have stored? Answered by `StoredContents`. They
    stay until the attempt's release is made, or for a week.
    """

    attempt: AttemptName
    lease: Lease


class StoredContents(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    Contents that needn't be uploaded: the first 8 bytes of the SHA-256 of each, one after the other. And what the live
    release has, as far as there is room: by that the builder says what has changed, and nothing else.
    """

    contents: bytes = b""
    live: LiveFiles = LiveFiles()


class WantUpload(Message, frozen=True, kw_only=True, tag="want_upload"):
    """
    A call: where may the archive be uploaded, or the package that is at this ``position`` in the permit for this
    ``target``? Answered by `UploadGrant`. Asking again gives a new token, which is the only one then. ``trouble`` says,
    for people, why the last try failed, if one did.
    """

    attempt: AttemptName
    lease: Lease
    size: int
    sha256: str
    trouble: str = ""
    target: str = ""  # "": the archive
    position: int = 0


# -- the apiserver says ----------------------------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    What to do with one attempt that the builder holds.

    - ``continue``: go on with the attempt, and send its records from number ``next`` on.
    - ``go``: start the attempt, which was accepted and not started.
    - ``stop``: the lease is no longer valid: kill the attempt, then forget it.
    - ``forget``: the attempt is over and everything has arrived: delete its folder.
    """

    attempt: str
    lease: str
    order: Literal["continue", "go", "stop", "forget"]
    next: int = 1
    cancel: str = ""  # if not "": the attempt was cancelled meanwhile, for this reason


class Orders(Message, frozen=True, kw_only=True, tag="orders"):
    """The answer to `Sync`: one order for each attempt listed there. Both sides then know the same."""

    orders: list[Order]
    credit: int  # bytes of unacknowledged records that may be under way for each attempt
    uploads: str  # the base address for uploads, as the apiserver knows itself
    # of `APISERVER_FEATURES`, and of later versions: what it takes beside what every apiserver does
    features: Annotated[list[Short], msgspec.Meta(max_length=MAX_FEATURES)] = []


#: The feature of an apiserver that takes `CheckedOut`.
CHECKED_OUT = "checked-out"

#: The feature of an apiserver that takes `Tools`.
TOOLS = "tools"

APISERVER_FEATURES = (CHECKED_OUT, TOOLS)


class Offer(Message, frozen=True, kw_only=True, tag="offer"):
    """Offers the attempt to the builder. The lease is void if the attempt isn't accepted within ``expires`` seconds."""

    attempt: str
    lease: str
    build: int
    project: str
    repository: str
    ref: str
    commit: str = ""
    publish: Publish = Publish()  # the same in the flat form, for older builders
    targets: list[dict[str, Any]] | None = None  # see `publish.targets.registry`; None: by an older apiserver
    site: bool = False  # the project makes static releases: what is built must be one, released or not
    settings: BuildSettings = BuildSettings()  # how it is built, as the project says
    parameters: dict[str, str] = {}
    environment: dict[str, str] = {}
    context: Context = "preview"
    environment_name: str = ""  # of which environment of the project it is; "": by an older apiserver
    refs: list[str] = []  # from one of these, patterns too, the commit must be reachable; none: any will do
    url: str = ""  # where the project's live release is found
    registries: list[Registry] = []  # from which it installs
    protected: list[str] = []  # the project's protected refs, as patterns of `builds.protection`
    used: list[str] | None = None  # the hosts that the project's last build that succeeded used; None: any may be used
    versioning: Versioning | None = None  # which versions its packages get; None: by an older apiserver
    asks: list[str] = []  # what the runner must ask for (`WantSecrets`) before it begins: "steps", "checkout"
    contents: bool = False  # contents that are stored already (`WantContents`) needn't be in the archive
    elsewhere: bool = False  # the repository must be at no address of the builder's machine or of its cloud
    head: bool = False  # tell in the result which branch the repository's HEAD stands for
    caches: int = 0  # how many times what the project's builds keep was cleared: nothing from before is used
    caches_kept: int | None = None  # days after which of that goes what no build has used; None: as the builder has it
    stranger: bool = False  # it is of a pull request from a fork: it uses and keeps nothing of what builds keep
    timeout: float
    idle_timeout: float
    expires: float


class Go(Message, frozen=True, kw_only=True, tag="go"):
    """The acceptance is committed: start the attempt."""

    attempt: str
    lease: str


class Stop(Message, frozen=True, kw_only=True, tag="stop"):
    """The lease is not, or no longer, valid: kill what runs of the attempt, and delete its folder."""

    attempt: str
    lease: str


class CancelAttempt(Message, frozen=True, kw_only=True, tag="cancel"):
    """The attempt was cancelled, and is to end. It ends by a `Final`, as always."""

    attempt: str
    lease: str
    reason: str


class Ack(Message, frozen=True, kw_only=True, tag="ack"):
    """All records of the attempt below ``next`` are committed."""

    attempt: str
    next: int


class Resend(Message, frozen=True, kw_only=True, tag="resend"):
    """Records are missing: send those from ``next`` on again (and the `Final`, if it was sent)."""

    attempt: str
    next: int


class FinalAck(Message, frozen=True, kw_only=True, tag="final_ack"):
    """The attempt's end is committed; its folder may be deleted."""

    attempt: str
    lease: str


class UploadGrant(Message, frozen=True, kw_only=True, tag="upload_grant"):
    """
    Upload with ``PUT {path}`` to the apiserver's HTTP port, ``Authorization: Bearer {token}``, and
    ``Upload-Offset: N`` for the part from byte N on; ``HEAD {path}`` tells how many bytes the apiserver has.
    ``complete``: the apiserver has the whole archive already.
    """

    path: str
    token: str
    complete: bool = False


class ListRefs(Message, frozen=True, kw_only=True, tag="list_refs"):
    """
    A call: which branches and tags has this repository now? Answered by `RefList`, within ``timeout`` seconds; refused
    with ``busy`` if the builder answers enough others: ask later. Only to a builder that has the feature ``remotes``.
    """

    remote: Remote
    question: RefsQuestion = RefsQuestion()
    timeout: float


class DescribeCommits(Message, frozen=True, kw_only=True, tag="describe_commits"):
    """A call: what of these commits decides whether they build? Answered by `CommitList`, as `ListRefs` is."""

    remote: Remote
    question: CommitsQuestion
    timeout: float


# Both ends' vocabularies are made of these four.
FROM_BUILDER = (
    Sync
    | Status
    | Tools
    | Accept
    | Decline
    | Started
    | CheckedOut
    | Log
    | Final
    | WantPermit
    | WantSecrets
    | WantContents
    | WantUpload
)
FROM_APISERVER = Offer | Go | Stop | CancelAttempt | Ack | Resend | FinalAck | ListRefs | DescribeCommits

#: request type -> its reply's type, of what the builder asks
CALLS: dict[type[msgspec.Struct], type[msgspec.Struct]] = {
    Sync: Orders,
    WantPermit: Permit,
    WantSecrets: Secrets,
    WantContents: StoredContents,
    WantUpload: UploadGrant,
}

#: The same of what the apiserver asks.
QUESTIONS: dict[type[msgspec.Struct], type[msgspec.Struct]] = {
    ListRefs: RefList,
    DescribeCommits: CommitList,
}
