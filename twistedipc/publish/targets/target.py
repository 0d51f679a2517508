"""
What a target is: the seam between the platform and a place to which projects publish. No logic but defaults.

Each target is a folder beside this module, with a class that derives from `Target`, and a line in ``registry``. All
else is made from that: what a project may say of it in the API, the options of the command, the names of the project's
secrets, its permits, its steps in the runner.

This module and a target's own are imported by the runner, which is to start fast: what only the step processes need
(tar files, npm, clients for other services) is imported by the methods that run there, `Target.prepare` and
`Target.deliver`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import msgspec

from twistedipc.builds.attempt import ArtifactFile, LiveFiles, Package, Permit, Published, Spec
from twistedipc.builds.lint import Linted, Linter
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.recognised import PlannedStep
from twistedipc.builds.recognition.tree import Tree
from twistedipc.builds.versions import Chosen, Versioning
from twistedipc.publish.asking import Answered, CantAnswer, Question
from twistedipc.publish.compared import Compared

if TYPE_CHECKING:  # a runner imports this module, and has no use for the states of builds
    from twistedipc.publish.record import Record
    from twistedipc.publish.targets.differences import Difference


class Settings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """
    What a project says of one of its targets. The tag of a derived class is its target's name. As JSON::

        {"type": "npm", "registry": "https://npm.example.org/"}

    Each field becomes an option of ``twistedipc project add`` and ``set``; `option` says which.
    """

    paused: bool = False  # nothing is published there now, but its settings and secrets stay


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """How a field of a target's settings is an option of the command."""

    flag: str  # "--registry"
    metavar: str
    help: str
    unset: str  # what "" does, for ``set``
    label: str  # what it is called in a form; "": as the field


def option(help: str, *, flag: str, metavar: str = "TEXT", unset: str = "", label: str = "") -> msgspec.Meta:
    """The note on a field of a target's settings that says which option of the command it is."""
    return msgspec.Meta(extra={"option": Option(flag=flag, metavar=metavar, help=help, unset=unset, label=label)})


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """
    A secret that a project may have for a target. It is sealed in the ledger, bound to the place for which it was set
    (`Target.place`) and to the repository, and handed out by a permit to the step that delivers, alone.
    """

    name: str  # "npm_token"
    variable: str  # the environment variable in which that step finds it
    help: str  # "the npm registry's token"
    audience: str = (
        ""  # nobody sets it: the apiserver signs an ID token for this service, for each attempt; "": it is set
    )


class CantPrepare(Exception):
    """What was built can't be published as it is. ``str()`` of it is a sentence for the project's authors."""


class CantDeliver(Exception):
    """What was packed isn't published. ``str()`` of it is a sentence for the project's authors."""


class NotAllowed(Exception):
    """A project may not publish a package. ``str()`` of it is a sentence for the project's authors and admins."""


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What a target wants to be run before anything is packed."""

    steps: Sequence[PlannedStep] = ()  # steps of the build, with the build's environment
    remark: str = ""  # a sentence for the log; "": none


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """What a target wants of the versions of packages, once they are installed and before they are built."""

    tool: PlannedStep | None = None  # the project's own, which makes them: it is run without secrets
    before: dict[str, str] = {}  # for `Target.versions_made`: package -> version, before the tool
    edits: Mapping[str, bytes] = {}  # what is to be written: path -> the file
    files: Sequence[str] = ()  # the paths of what the tool may change, beside those: what a release commit may have
    chosen: Mapping[str, Chosen] = {}  # package -> the version that it must have when it is packed
    said: Sequence[str] = ()  # sentences for the log
    warnings: Sequence[str] = ()


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What `Target.prepare` works on. No process of the build is alive any more."""

    folder: Path  # the attempt's, for reading; the working copy is ``work`` in it
    out: Path  # where the target puts what it makes; `Package.file` is relative to this
    spec: Spec
    plan: Plan  # by which it was built
    linter: Linter | None  # where publint is; None: it isn't wanted
    chosen: Mapping[str, Chosen] = {}  # the versions that packages must have; none: those that they have
    artifact: ArtifactFile | None  # of ``archive.tar.gz`` in ``out``: what was built, if the build left an output


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What `Target.prepare` has made."""

    packages: Sequence[Package]  # in the order in which they are published; at least one
    public: Mapping[str, list[str]] = {}
    """The names in them that become public: see `PublicNames`. Those of the packages themselves needn't be here."""
    linted: Linted | None = None  # what publint says of them


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What `Target.deliver` is to publish, once that was permitted."""

    folder: Path  # in which the packages' files are
    out: Path  # a folder for what is needed meanwhile
    packages: Sequence[Package]  # as `Target.prepare` made them
    secrets: Mapping[str, str]  # all that is needed, by name; what would end soon is another after a row
    record: Record  # where each step is written down before it is done and after; a target may leave that
    set_tag: str = ""  # a name of this build's own, which no other has
    otp: str = ""  # a person's one-time password; "": nobody has given one
    asks: bool = False  # whether `PersonNeeded` may be raised: the publication goes on when a person has said so
    what: Literal["publish", "reject"] = "publish"  # reject: what waits for a person is to be taken back


class NotUnpacked(Exception):
    """A release isn't there (any more), so it can't be live."""


class Releases(Protocol):
    """
    What a target keeps on the apiserver, of which one release is live: it can be rolled back. The ledger says which
    release is live; the target follows it. All methods do disk work at once, so they belong in a thread; one thread at
    a time changes one project.
    """

    def unpack(self, project: str, release_id: int, archive: Path) -> object:
        """Put a release beside the others, unless it is there. Raises `archive.BadArchive`, OSError."""

    def has(self, project: str, release_id: int) -> bool:
        """Return whether this release is on disk, so that it can be made live."""

    def live_id(self, project: str) -> int | None:
        """The id of the live release, or None."""

    def activate(self, project: str, release_id: int) -> None:
        """Make this release the live one, by one atomic and durable switch. Raises `NotUnpacked`, OSError."""

    def retire(self, project: str, keep: Collection[int]) -> list[int]:
        """Delete all releases but those of ``keep`` and the live one: the ids of those deleted."""

    def reconcile(self, project: str, live_id: int | None) -> None:
        """
        Make what is live agree with the ledger, and delete what a crash has left. There may be nothing of this project
        here. Raises `NotUnpacked`, OSError.
        """

    def projects(self) -> list[str]:
        """The projects that have a release here."""

    def remove_project(self, project: str) -> None:
        """Delete all releases of a project that was removed. Raises OSError."""


class Unused(NamedTuple):
    """Contents that no release has, as `Pooled.unused` has found them."""

    contents: Sequence[str]
    indexes: frozenset[IndexFile]  # what it has looked at


class IndexFile(NamedTuple):
    """A file that lists contents, as it was when it was looked at: one that is written again is another."""

    name: str
    inode: int
    modified: int  # nanoseconds since the epoch
    size: int  # bytes


class DiskUse(NamedTuple):
    """What the releases of a project take of the disk."""

    releases: int  # that can be made live
    contents: int  # of all files that are kept
    size: int  # bytes


class Compressed(NamedTuple):
    """Compressed variants of contents of a release, which `Pooled.compress` has made and stored."""

    release: int
    #: By the content's SHA-256 and the coding, a variant's SHA-256 and bytes; none if none is smaller.
    variants: Mapping[str, Mapping[str, tuple[str, int]]]
    complete: bool  # there are no more to be made


@runtime_checkable
class Pooled(Releases, Protocol):
    """Releases that share the contents of their files: what no release has any more is looked for in the background."""

    def unused(self, project: str) -> Unused:
        """Find the contents that no release has. Others may change the project meanwhile. Raises OSError."""

    def remove_unused(self, project: str, unused: Unused, most: int) -> Unused:
        """Delete up to ``most`` of these, unless they are used again. Return what is left. Raises OSError."""

    def count_on(self, project: str, attempt: str) -> Collection[str]:
        """
        Return contents of the project, by SHA-256, that an archive of this attempt may leave out. They stay until
        `count_off`, or for a week. Raises OSError.
        """

    def count_off(self, project: str, attempt: str) -> None:
        """The release of this attempt is made: nothing must stay for it any more. Raises OSError."""

    def file(self, project: str, sha256: str) -> Path:
        """Return the file that has a content of one of the project's releases; nothing is there if none has it."""

    def compress(self, project: str, release_id: int, most: int, go_on: Callable[[], bool]) -> Compressed | None:
        """
        Compress contents of a release, ``most`` bytes or a little more. None: there is nothing to be done. Others may
        change the project meanwhile, but not compress anything of it. Raises OSError.

        :param go_on: called before each content. It may wait, for what is more urgent; False: this is enough
        """

    def take_compressed(self, project: str, compressed: Compressed) -> None:
        """Serve what `compress` has made: before anything else is compressed. Raises OSError."""

    def live_files(self, project: str) -> LiveFiles:
        """Return what is known of the live release's files, as far as that is short. Raises OSError."""

    def compare(self, project: str, before: int | None, after: int, most: int) -> Difference:
        """
        Return what a release has other than an older one, or than none, with up to ``most`` files. Raises `NotUnpacked`
        if one of them isn't on disk, OSError.
        """

    def disk_use(self, project: str) -> DiskUse:
        """Return what the project's releases take of the disk. Others may change them meanwhile. Raises OSError."""


S = TypeVar("S", bound=Settings)


class Target(Protocol[S]):
    """A place to which projects publish."""

    name: str  # of one word: the tag of its settings, the step's, the option's
    what: str  # what is published there, after "no" or "an": "npm package"
    settings: type[S]
    secrets: Sequence[Secret] = ()  # that a project can have; `secrets_for` says which are needed to deliver
    default: bool = False  # whether a project that says nothing of its targets has it
    linted: bool = False  # whether publint looks at what is packed
    has_versions: bool = False  # whether what is published there has a version, which a build can raise
    needs_site: bool = False  # whether what was built must be a site, of which an archive is packed
    delivered_by: Literal["runner", "apiserver"] = "runner"
    """
    ``runner``: by `deliver`, in a step process of the attempt, with a permit. ``apiserver``: from the archive of what
    was built, which is uploaded there, as a release of `releases`.
    """
    takes_parts: bool = False  # whether its releases are `Pooled`, and take archives that leave out what is stored
    folder: str = ""  # the name, in the apiserver's data, of the folder of its releases; "": releases-NAME

    # -- in the apiserver: a project's settings

    def check(self, settings: S) -> None:
        """Raise `names.BadValue` if these settings can't be."""
        return

    def place(self, settings: S) -> str:
        """Return where the secrets go. They are void when this changes, so it must be equal for the same place."""
        return ""

    def place_name(self, settings: S) -> str:
        """Return `place` as people read it."""
        return self.place(settings)

    def notices(self, settings: S) -> Sequence[str]:
        """Return what an admin should know after setting this, a sentence each."""
        return ()

    def describe(self, settings: S) -> str:
        """What is published, and where, in a few words."""
        return self.what

    def details(self, settings: S) -> Mapping[str, str]:
        """More about that for people, by name."""
        return {}

    def address(self, settings: S, project: str, site: Callable[[str], str]) -> str:
        """
        Where people find what the project publishes; "" if that can't be said. ``site``: a project's address on the
        apiserver's site of releases.
        """
        return ""

    def is_stored(self, settings: S) -> bool:
        """
        Return whether what is packed for a target that runners deliver to is stored on the apiserver, which publishes
        it by `deliver` in a process of its own: then no builder is given the target's secrets.
        """
        return False

    def secret(self, name: str) -> Secret | None:
        """Return the secret of this name that a project can have; None if it can have none."""
        return next((secret for secret in self.secrets if secret.name == name), None)

    def secrets_for(self, settings: S, packages: Collection[str] | None = None) -> Sequence[Secret]:
        """
        Return the secrets that are needed to deliver these packages, by name, with what the apiserver signs for that.
        None: any of the project's.
        """
        return self.secrets

    def secret_place(self, settings: S, secret: str) -> str | None:
        """Return the `place` to which a secret goes; None: to none, as these settings are."""
        return self.place(settings)

    def package_place(self, settings: S, package: str) -> str:
        """Return the `place` to which a package goes."""
        return self.place(settings)

    def features(self, settings: S) -> Collection[str]:
        """Return what a builder must be able to do (`builds.messages.FEATURES`) beside knowing the target."""
        return ()

    def lacks(self, settings: S, environment: Mapping[str, str]) -> str:
        """
        Return what the machine that publishes, with this environment, lacks for `deliver`: a sentence that says what to
        do. "": nothing that is known. Looks at files, and contacts nobody.
        """
        return ""

    def makes_versions(self, settings: S) -> bool:
        """Return whether each build for the project's users makes the versions of what it publishes."""
        return False

    def makes_canaries(self, settings: S) -> bool:
        """Return whether builds that aren't for the project's users publish previews of packages there."""
        return False

    # -- in the apiserver: permits

    def moved(self, offered: S, now: S, project: str) -> str:
        """
        Return why the attempt's offer isn't what its project publishes now; "" if it is. The project's
        settings may have been changed while it was built.
        """
        place, new = self.place(offered), self.place(now)
        return "" if place == new else f"project {project} publishes to another place than when this build began"

    def allow(self, settings: S, packages: Sequence[Package], project: str) -> S:
        """
        Check that the project may publish all of these packages. Return the project's new settings, which they may have
        made narrower. Raises `NotAllowed`.
        """
        return settings

    # -- in the apiserver: what is kept there

    def releases(self, folder: Path) -> Releases | None:
        """
        What is kept in this folder of the apiserver, which is the target's own (`folder`); None for a target that keeps
        nothing there, and so can't be rolled back.
        """
        return None

    # -- in the runner, and in its step processes

    def versions(
        self, settings: S, tree: Tree, plan: Plan, wanted: Versioning, *, production: bool
    ) -> Versioned | None:
        """
        Return which versions the packages get; None: those of their files. Raises `reading.BadPlan`.

        :param production: whether the build is for the project's users
        """
        return None

    def versions_made(self, settings: S, tree: Tree, plan: Plan, before: dict[str, str]) -> Versioned:
        """Return which versions `Versioned.tool` has made. Raises `reading.BadPlan`."""
        return Versioned()

    def release_author(self, settings: S) -> str:
        """Return who is the author of the commit with the versions, which is pushed; "": none is."""
        return ""

    def before_packing(self, tree: Tree, plan: Plan) -> Before:
        """
        What is to be run before anything is packed, by what the steps of the plan have left in the working copy.
        Raises `reading.BadPlan`.
        """
        return Before()

    def prepare(self, settings: S, built: Built) -> Prepared | None:
        """
        Pack and check what is to be delivered, before a permit is asked for: a part of the pack step, in its process,
        which runs nothing of the build's. None: the archive of what was built is all. Raises `CantPrepare`, OSError.
        """
        return None

    def delivers_to(self, settings: S) -> Sequence[str]:
        """
        Return the folders of the builder's machine to which `deliver` writes: they must be there. Where steps are
        isolated, it finds none but these.
        """
        return ()

    def contacts(self, settings: S) -> Sequence[str]:
        """
        Return the addresses whose hosts `deliver` contacts. Where steps are isolated, it reaches these, the registry
        that npm is set up for and what the operator allows, and no others.
        """
        return ()

    def deliver(self, settings: S, delivery: Delivery) -> Iterable[Published]:
        """
        Publish what was prepared, and yield what became of each package as soon as it is there: a step of its own, in
        its own process, with the secrets. It must be asked twice without harm: an attempt may be run again. Raises
        `CantPrepare`, `CantDeliver`, `PersonNeeded` (only if `Delivery.asks`), `RecordLost`, OSError.
        """
        raise CantDeliver(f"{self.name} has nothing to deliver")

    def compare(self, settings: S, delivery: Delivery) -> Iterable[Compared]:
        """
        Yield what each package would change against what is published: a step of its own, with the secrets, of which
        nothing is published. Raises `CantPrepare`, `CantDeliver`, OSError.
        """
        return ()

    # -- what is published, in a process of the apiserver's

    def ask(self, settings: S, question: Question) -> Answered:
        """Ask about what is published there, or change it, with the secrets. Raises `CantAnswer`, OSError."""
        raise CantAnswer(f"{self.name} can't be asked what is published there")

    def secrets_of(self, permit: Permit) -> dict[str, str]:
        """The secrets that a permit hands out, by name."""
        first = {secret.name: permit.token for secret in self.secrets[:1] if permit.token}
        return {**first, **permit.secrets}
