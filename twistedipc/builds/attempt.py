"""
One attempt, as builder, runner and apiserver describe it: what is to be done, what was found, how the attempt ended.

These are the contents of the files in an attempt's folder (``attempts.folder`` says which file holds which), and parts
of the link's messages.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from twistedipc.builds import names
from twistedipc.builds.access import Access
from twistedipc.builds.egress import Egress, Network
from twistedipc.builds.isolation import Isolation
from twistedipc.builds.lint import Linted
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.registries import Registry as Installs
from twistedipc.builds.secrets import Context, GivenSecret
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.versions import Versioning

#: The address of an npm registry. `names.registry` checks it; the pattern is here for the API's document only.
Registry = Annotated[
    str, Meta(extra_json_schema={"pattern": f"^(?:{names.REGISTRY})$", "maxLength": names.MAX_ADDRESS})
]


#: Names of npm packages. `names.packages` checks them; the pattern is here for the API's document only.
Packages = Annotated[
    list[
        Annotated[
            str,
            Meta(extra_json_schema={"pattern": f"^(?:{names.PACKAGES})$", "maxLength": names.MAX_PACKAGE}),
        ]
    ],
    Meta(extra_json_schema={"maxItems": names.MAX_PACKAGES}),
]


#: The target of messages and files that name none: older versions had no other that a runner delivers to.
NPM = "npm"


class Publish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What is to be published when the build has succeeded, in the flat form that knows two targets. Older versions say
    it so on links, and callers of the API may; `publish.targets.registry` reads and writes it.
    """

    static: bool = False  # the output folder, as a release served by the apiserver
    npm: bool = False  # the package, to an npm registry
    registry: Registry = ""  # the registry's address; "" is the one that npm is set up for
    packages: Packages = []  # the names, or "@SCOPE/*", that may be published; none: only the first one published


class ToolSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a builder brings Node and package managers to its builds."""

    folder: str  # the store
    registry: str = ""  # the package registry's address; "" is the one that npm is set up for
    node: str = ""  # the Node of projects that ask for none, as a range; "" is the one on the PATH
    forbid: list[str] = []  # what no build gets: "node@<20", "yarn"
    offline: bool = False  # whether nothing is fetched
    userconfig: str = ""  # the operator's npmrc
    publint: bool = False  # whether packages are looked at by publint


class ResourceLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The most that the steps of an attempt may use at a time; 0 is no limit."""

    processes: int = 0  # and threads
    memory: int = 0  # bytes
    disk: int = 0  # bytes of the attempt's folder
    open_files: int = 0  # of one process, and of all together
    cpus: float = 0.0  # processors


class Used(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The most that the steps of an attempt have used at a time, as far as was seen; 0 is not known."""

    processes: int = 0  # and threads
    memory: int = 0  # bytes
    disk: int = 0  # bytes of the attempt's folder
    open_files: int = 0
    cpu: int = 0  # milliseconds of processors' time, altogether


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a runner is to do: everything it needs to know, and no secret."""

    attempt: str  # "BUILD-N", e.g. "42-1"
    lease: str  # names this grant of the attempt to this builder
    build: int
    project: str
    repository: str  # an address for git, checked by `names.repository`
    elsewhere: bool = False  # the repository must be at no address of this machine or of its cloud (`builds.places`)
    ref: str  # a branch, tag, full ref or commit id, checked by `names.ref`
    commit: str = ""  # the full id, where it is known already (an attempt that repeats another)
    stranger: bool = False  # it is of a pull request from a fork: its submodules are fetched without credentials
    head: bool = False  # tell which branch the repository's HEAD stands for: its builds are the ones that go live
    publish: Publish = Publish()  # if ``targets`` is None, which an older builder leaves out
    targets: list[dict[str, Any]] | None = None  # where it is to be published: see `publish.targets.registry`
    site: bool = False  # what is packed must be a site: the project releases it, even if this build is not released
    settings: BuildSettings = BuildSettings()  # how it is built, as the project says
    parameters: dict[str, str] = {}  # given to the steps as environment variables
    environment: dict[str, str] = {}  # the operator's values, for all steps
    variables: dict[str, str] = {}  # the project's values, for its own steps
    context: Context = "preview"  # what kind of build it is
    environment_name: str = ""  # of which environment it is; "": by an older apiserver, which has the two kinds alone
    refs: list[str] = []  # patterns: from one of these refs the commit must be reachable; none: any will do
    url: str = ""  # where the project's live release is found; "": not known
    registries: list[Installs] = []  # from which its install step takes packages
    protected: list[str] = []  # patterns of `builds.protection`; none: an older apiserver, which has no such refs
    versioning: Versioning | None = None  # which versions its packages get; None: those of their files
    asks: list[str] = []  # what the runner must ask for before it begins: "steps", for the secrets of the steps;
    # `access.CHECKOUT`, for what the checkout needs
    contents: bool = False  # contents that are stored already needn't be in the archive: the builder asks which
    path: str  # PATH of the steps
    mirror: str  # folder of the repository's bare mirror (may not exist yet; its lock is MIRROR + ".lock"; of a
    # repository with SHA-256 ids it is MIRROR + ".sha256")
    tools: ToolSettings | None = None  # None: an older builder, which brings none
    caches: str = ""  # folder of what the project's builds keep for the next ones; "": they keep nothing
    caches_kept: int | None = None  # days after which of that goes what no build has used; None: there is no such rule
    doorbell: str  # the builder's UNIX datagram socket, relative to the attempt's folder or absolute
    cgroups: str = ""  # folder below which the attempt's control group (v2) is made; "" where there can be none
    cgroups_v1: dict[str, str] = {}  # the same for v1: controller -> folder in its hierarchy
    limits: ResourceLimits = ResourceLimits()
    timeout: float = 3600.0  # seconds for the whole attempt; `.twistedipc.toml` may lower it
    idle_timeout: float = 900.0  # seconds without any output or message; `.twistedipc.toml` may lower it
    grace: float = 10.0  # seconds between SIGTERM and SIGKILL
    reserve: int = 0  # bytes of the disk that are left free: while there are fewer, the build waits
    isolation: Isolation = Isolation()  # what keeps its steps from reaching more than their own
    network: Network = Network()  # what they may reach of the network beside what the project says

    @property
    def hierarchies(self) -> list[str]:
        """All folders below which the attempt has control groups."""
        return [folder for folder in dict.fromkeys((self.cgroups, *self.cgroups_v1.values())) if folder]


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """What the checkout step found."""

    commit: str  # the full commit id
    subject: str  # the first line of its message
    author: str
    author_email: str = ""  # as the commit says it, which anybody can write
    mirror: str = ""  # the folder of the mirror that has the commit
    mirrors: list[str] = []  # the folders of all mirrors from which the working copy borrows objects
    resolved: int = 0  # when the ref led to it, in milliseconds since the epoch; 0: the commit was given
    head: str = ""  # the branch that the repository's HEAD stands for; "": it wasn't asked for, or stands for none
    protected: str = ""  # a protected ref (`Spec.protected`) from which the commit can be reached; "": there is none
    led: str = ""  # the same of the refs that lead to the environment (`Spec.refs`)


class FoundCommit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is told of a `Checkout` while its attempt still runs. In it is nothing that the log hides."""

    commit: str
    subject: str = ""
    author: str = ""
    author_email: str = ""
    resolved: int = 0  # as in `Checkout`


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """What the checkout step learned of the repository's host at the first contact, even if it failed after that."""

    host_keys: list[str]  # lines of known_hosts


class Package(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the pack step made of the working copy for one target to deliver."""

    file: str  # the npm tarball, or another file, relative to the attempt's folder
    name: str
    version: str
    integrity: str  # of the file: "sha512-…", as npm has it
    tag: str = ""  # the dist-tag; "" is the target's default
    settled: bool = False  # this build hasn't made its version: if it is there, it stays, whatever is in it
    git_tag: str = ""  # what its commit is to be tagged with once it is published; "": with nothing
    notes: str = ""  # what its CHANGELOG.md says of this version, as Markdown; "": nothing, or it wasn't looked for


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one of the platform's own steps failed: the sentence that becomes the result's reason."""

    reason: str


class LiveFiles(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of the files of the project's live release, for comparison with what is packed."""

    files: list[tuple[str, int]] = []  # the path, with a star in place of a hash, and the bytes that are sent with gzip
    complete: bool = False  # there are no others


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The commit with the versions that a build has made, to be pushed before its packages are published."""

    message: str
    author: str  # "NAME <EMAIL>"
    time: int  # milliseconds since the epoch; the same in all attempts of a build
    files: dict[str, bytes | None]  # path -> its content; None: the file is removed


class PermitWanted(msgspec.Struct, frozen=True, kw_only=True):
    """The runner's question whether it may publish. It has built and packed, and no process of the build is alive."""

    package: Package
    also: list[Package] = []  # more that are published after it, in their order: all of them or none
    target: str = NPM


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """The apiserver's answer to `PermitWanted`: publish with these secrets, or don't."""

    granted: bool
    reason: str = ""  # if not granted: why
    packages: int = (
        1  # how many of those asked for it is for; an apiserver that doesn't say it looked at the first alone
    )
    token: str = ""  # the target's first secret: for npm the registry's token
    secrets: dict[str, str] = {}  # the target's other secrets, by name
    store: bool = False  # publish nothing: have what was packed uploaded, which the apiserver publishes


class SecretsWanted(msgspec.Struct, frozen=True, kw_only=True):
    """The runner has begun, no process of the build was started yet, and it asks for the secrets of the attempt."""

    uses: list[str]  # what for, as `Spec.asks` says


class Secrets(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The apiserver's answer. Nothing of it is ever written to a disk: see ``attempts.handover``."""

    granted: bool
    reason: str = ""  # if not
    steps: list[GivenSecret] = []  # what the build's steps are given
    checkout: Access | None = None  # what the checkout step is given, and no other


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """The request to end the attempt. ``reason`` is shown to people."""

    reason: str
    requested_by: str = ""


class StepResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of one step."""

    index: int
    name: str
    command: str
    outcome: str  # as in `logs.StepEnded`
    started: int  # milliseconds since the epoch
    ended: int
    exit_code: int | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tool that the steps of a build were given."""

    name: str
    version: str
    uri: str = ""  # where it is from, as a purl; "": it is the builder's own, on its PATH
    digests: dict[
        str, str
    ] = {}  # of its package's archive: algorithm -> hexadecimal digits; none if it is the builder's


#: The most characters of a stored tool's name, and of its version.
MAX_STORED_TOOL = 100


class StoredTool(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A tool that a builder has fetched, and keeps for the builds that ask for it."""

    name: Annotated[str, msgspec.Meta(max_length=MAX_STORED_TOOL)]  # "node", "pnpm"
    version: Annotated[str, msgspec.Meta(max_length=MAX_STORED_TOOL)]


class ArtifactFile(msgspec.Struct, frozen=True, kw_only=True):
    """The archive that is to be uploaded."""

    size: int  # bytes
    sha256: str
    files: int  # how many files it holds
    unpacked: int  # the bytes of these files


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A package's file that is to be uploaded, for the apiserver to publish."""

    target: str
    position: int  # among the packages of the target's permit, from 0
    file: str  # relative to the attempt's folder
    size: int  # bytes
    sha256: str


class PublicNames(msgspec.Struct, frozen=True, kw_only=True):
    """
    The names that become public when what was packed is released or published. Each list has the names of one kind of
    thing; its key says what kind, to begin a sentence with: "a file of the site".
    """

    names: dict[str, list[str]]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A package that was published, or was there already: see ``status``."""

    name: str
    version: str
    integrity: str
    status: Literal["published", "already-published"]
    registry: str = ""  # where the package is now: for npm, the registry
    target: str = NPM
    notice: str = ""  # for people: what isn't as it should be, above all the dist-tag; "": all is


Outcome = Literal["succeeded", "failed", "cancelled", "timed_out", "lost"]


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of the attempt. The runner writes it last; once on disk, it never changes."""

    outcome: Outcome
    reason: str = ""  # for people: why it didn't succeed
    lines: int  # how many records the journal has
    sha256: str  # `logs.LogDigest` of all of them; "" if some of them are missing
    started: int  # milliseconds since the epoch
    ended: int
    commit: str = ""
    resolved: int = 0  # as in `Checkout`, by this machine's clock
    head: str = ""  # as in `Checkout`
    protected: str | None = None  # as in `Checkout`; None: an older builder, or one that wasn't told of such refs
    host_keys: list[str] = []  # as in `Contact`
    subject: str = ""
    author: str = ""
    author_email: str = ""  # as in `Checkout`
    steps: list[StepResult] = []
    artifact: ArtifactFile | None = None
    published: list[Published] = []
    packed: list[Packed] = []  # what is to be uploaded beside the artifact
    recognised: list[Finding] = []  # what the project is, and what says so
    tools: list[Tool] = []  # what its steps were given, as far as they asked for some
    used: Used | None = None  # None: nothing was measured
    egress: Egress | None = None  # the hosts that its steps contacted; None: nobody looked
    linted: Linted | None = None  # what publint says of its packages; None: it made none
