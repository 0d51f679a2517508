"""
One attempt's folder: the contract on disk between the builder and the runner. Bottom layer.

The builder makes ``attempts/ATTEMPT-LEASE/`` and the runner works in it. Neither needs the other to be alive:
what they say to one another are files, written by `write_file` (whole or not at all), and two bells that may be
lost without harm.

::

    spec.json      Spec, by the builder: what to do. Written before `accept` is sent.
    starting       by the builder, empty: written before the runner is spawned; a runner is spawned once or never
    lock           flock'ed exclusively by the runner (inherited from the builder, so there is no moment
                   without it): held = the runner lives
    runner.err     the runner's own stderr; empty unless it broke
    journal/       NNNNNNNNNNNN.log, named by their first record's number (`journal_line`)
    control        a FIFO that the runner reads: any byte means "look at the files"
    cancel         Cancel, by the builder
    permit         Permit, by the builder, after the runner asked: read by the runner, then deleted by it
    permit.wanted  PermitWanted, by the runner: it waits for `permit`
    checkout.json  Checkout, by the checkout step
    plan.json      builds.plan.Plan, by the runner after the checkout
    package.json   Package, by the pack step (if there is a package to publish)
    archive.tar.gz manifest.json artifact.json    by the pack step: what was built (publish/archive.py); ArtifactFile
    public-names.json  PublicNames, by the pack step: what strangers could read in what is packed, without opening it
    published.json list of Published, by the publish step
    failure.json   Failure, by a step of the platform's own that failed: why, in a sentence
    result.json    Result, by the runner as its last act (or by the builder in the name of a runner that died)
    work/          the working copy        home/ tmp/    HOME and TMPDIR of the steps
    bin/           the `node` and the `twistedipc-say` that the build's steps find first
    channel        the UNIX socket on which the step that runs can say something

The runner's bell to the builder is a datagram to the UNIX socket `Spec.doorbell`, sent after each append.
"""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from twistedipc.builds import names
from twistedipc.builds.logs import Lines, encoder, lines_decoder

#: What `names.registry` holds it to is said here for the API's document only.
Registry = Annotated[
    str, Meta(extra_json_schema={"pattern": f"^(?:{names.REGISTRY})$", "maxLength": names.MAX_ADDRESS})
]


#: As `names.packages` holds it to.
Packages = Annotated[
    list[
        Annotated[
            str,
            Meta(extra_json_schema={"pattern": f"^(?:{names.PACKAGES})$", "maxLength": names.MAX_PACKAGE}),
        ]
    ],
    Meta(extra_json_schema={"maxItems": names.MAX_PACKAGES}),
]

#: What a disk says that may have room, or be well, a little later: who writes to it waits, and tries again.
PASSING_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})


class Publish(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be published when the build has succeeded."""

    static: bool = False  # the output folder, as a release served by the apiserver
    npm: bool = False  # the package, to an npm registry
    registry: Registry = ""  # the registry's address; "" is the one that npm is set up for
    packages: Packages = []  # the names, or "@SCOPE/*", that may be published; none: the first that is becomes the one


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a runner is to do: everything it needs to know, and no secret."""

    attempt: str  # "BUILD-N", e.g. "42-1"
    lease: str  # names this grant of the attempt to this builder
    build: int
    project: str
    repository: str  # an address for git, checked by `names.repository`
    ref: str  # a branch, tag, full ref or commit id, checked by `names.ref`
    commit: str = ""  # the full id, where it is known already (an attempt that repeats another)
    publish: Publish = Publish()
    site: bool = False  # what is packed must be a site: the project releases it, even if this build is not released
    parameters: dict[str, str] = {}  # given to the steps as environment variables
    environment: dict[str, str] = {}  # the operator's values, for all steps
    variables: dict[str, str] = {}  # the project's values, for its own steps
    path: str  # PATH of the steps
    mirror: str  # folder of the repository's bare mirror (may not exist yet; its lock is MIRROR + ".lock"; of a
    # repository with SHA-256 ids it is MIRROR + ".sha256")
    npm_cache: str  # folder of the npm cache that all attempts share
    doorbell: str  # the builder's UNIX datagram socket, relative to the attempt's folder or absolute
    cgroups: str = ""  # folder below which the attempt's control group is made; "" where there can be none
    timeout: float = 3600.0  # seconds for the whole attempt; `.twistedipc.toml` may lower it
    idle_timeout: float = 900.0  # seconds without any output or message; `.twistedipc.toml` may lower it
    grace: float = 10.0  # seconds between SIGTERM and SIGKILL
    reserve: int = 0  # bytes of the disk that are left free: while there are fewer, the build waits


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """What the checkout step found."""

    commit: str  # the full commit id
    subject: str  # the first line of its message
    author: str
    mirror: str = ""  # the folder of the mirror that has the commit
    resolved: int = 0  # when the ref led to it, in milliseconds since the epoch; 0: the commit was given


class Package(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The npm package that the pack step made of the working copy."""

    file: str  # the tarball, relative to the attempt's folder
    name: str
    version: str
    integrity: str  # "sha512-…", as npm has it
    tag: str = ""  # the dist-tag; "" is npm's default


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one of the platform's own steps failed: the sentence that becomes the result's reason."""

    reason: str


class PermitWanted(msgspec.Struct, frozen=True, kw_only=True):
    """The runner has built and packed, no process of the build is alive, and it asks to publish."""

    package: Package


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """The apiserver's answer: publish with this secret, or don't."""

    granted: bool
    reason: str = ""  # if not
    token: str = ""  # the registry's


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """The attempt is to end; `reason` is shown to people."""

    reason: str
    requested_by: str = ""


class StepResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one step went."""

    index: int
    name: str
    command: str
    outcome: str  # as in `logs.StepEnded`
    started: int  # milliseconds since the epoch
    ended: int
    exit_code: int | None = None


class ArtifactFile(msgspec.Struct, frozen=True, kw_only=True):
    """The archive that is to be uploaded."""

    size: int  # bytes
    sha256: str
    files: int  # how many files it holds
    unpacked: int  # their bytes


class PublicNames(msgspec.Struct, frozen=True, kw_only=True):
    """
    The names that become public when what was packed is released or published. Each list has the names of one kind of
    thing; its key says what kind, to begin a sentence with: "a file of the site".
    """

    names: dict[str, list[str]]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """An npm package that is in the registry now. ``status`` is "published" or "already-published"."""

    name: str
    version: str
    integrity: str
    status: Literal["published", "already-published"]
    registry: str = ""
    notice: str = ""  # for people: what isn't as it should be, above all the dist-tag; "": all is


Outcome = Literal["succeeded", "failed", "cancelled", "timed_out", "lost"]


class Result(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the attempt ended: the runner's last word. Once it is on disk it never changes."""

    outcome: Outcome
    reason: str = ""  # for people: why it didn't succeed
    lines: int  # how many records the journal has
    sha256: str  # `logs.LogDigest` of all of them; "" if some of them are missing
    started: int  # milliseconds since the epoch
    ended: int
    commit: str = ""
    resolved: int = 0  # as in `Checkout`, by this machine's clock
    subject: str = ""
    author: str = ""
    steps: list[StepResult] = []
    artifact: ArtifactFile | None = None
    published: list[Published] = []


_T = TypeVar("_T")


def write_file(path: Path, value: msgspec.Struct, *, mode: int = 0o644) -> None:
    """
    Write ``value`` as JSON to ``path``: whole or not at all, and durably (write, fsync, rename, fsync the folder).
    """
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        data = memoryview(encoder.encode(value))
        while data:
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_folder(path.parent)


def step_failed(folder: Path, error: Exception) -> int:
    """
    What a step of the platform's own does when it has failed: says why, in the log and in failure.json, for the people
    who read it. Its exit code. On a disk that takes nothing the log alone has it.
    """
    print(error, flush=True)
    try:
        write_file(folder / "failure.json", Failure(reason=str(error)))
    except OSError as unwritten:
        print(f"failure.json can't be written: {unwritten.strerror}", flush=True)
    return 1


def sync_folder(path: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: Path, kind: type[_T]) -> _T | None:
    """The value in ``path``, or None if there is no such file. Raises `msgspec.DecodeError` if it isn't a ``kind``."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return msgspec.json.decode(data, type=kind)
    except UnicodeDecodeError as error:  # msgspec lets it through as it is
        raise msgspec.DecodeError(str(error)) from error


# -- the journal's lines ---------------------------------------------------------------------------------------------

SEGMENT_DIGITS = 12

#: How every journal line goes on after its checksum. It can't be within one: there, quotes are escaped.
JOURNAL_LINE_HEAD = b' {"type":"lines","first":'


def segment_name(first: int) -> str:
    """The file name of the journal segment whose first record has the number ``first``."""
    return f"{first:0{SEGMENT_DIGITS}d}.log"


class BadJournalLine(Exception):
    """A journal line that doesn't verify: cut short, or changed."""


def journal_line(batch: Lines) -> bytes:
    """
    A batch as one line of a journal: eight hexadecimal digits of the CRC-32 of what follows the space, the space,
    the batch's JSON (which holds no raw newline), a newline.
    """
    body = encoder.encode(batch)
    return b"%08x %b\n" % (zlib.crc32(body), body)


def parse_journal_line(line: bytes) -> Lines:
    """The batch of one journal line, given without its newline. Raises `BadJournalLine`."""
    body = line[9:]
    # Compared as it is written: `int` would take other spellings of the same number for unchanged.
    if line[:9] != b"%08x " % zlib.crc32(body):
        raise BadJournalLine("the checksum doesn't match")
    try:
        return lines_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJournalLine("it isn't a batch") from error
