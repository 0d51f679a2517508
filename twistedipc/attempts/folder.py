"""
One attempt's folder: the contract on disk between the builder and the runner.

The builder makes ``attempts/ATTEMPT-LEASE/`` and the runner works in it. Neither needs the other to be alive:
what they say to one another are files, written by `disk.files.write_file` (whole or not at all), and two bells that may
be lost without harm.

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
    secrets.wanted SecretsWanted, by the runner: it listens on `secrets`
    secrets        a UNIX socket, on which the builder gives the runner the secrets of the attempt (`handover`)
    credentials/   while the checkout step runs: what the repository's host is shown (0700; `access.json`: Access)
    contact.json   Contact, by the checkout step; this and what follows of such steps stands in `out` at first
    checkout.json  Checkout, by the checkout step
    commit.json    FoundCommit, by the runner after the checkout, for those who watch
    plan.json      builds.plan.Plan, by the runner after the checkout
    versions.json  builds.versions.ChosenVersions, by the runner before the steps that build, if versions are raised
    live-files.json LiveFiles, by the builder, before ``stored``
    stored         by the builder, if it is known: contents that needn't be packed, as `StoredContents` has them
    release.json   Release, by the runner after packing: what the step that pushes is to push
    package.json   Package, or a list of several, by the pack step, for the target npm (if there is a package to
                   publish); for each other target `package_file`
    archive.tar.gz manifest.json artifact.json    by the pack step: what was built (publish/archive.py); ArtifactFile
    public-names.json  PublicNames, by the pack step: what strangers could read in what is packed, without opening it
    published.json list of Published, by the publish step, as soon as each package is published
    failure.json   Failure, by a step of the platform's own that failed: why, in a sentence
    result.json    Result, by the runner as its last act (or by the builder in the name of a runner that died)
    aside/         what is kept for no later build
    work/          the working copy        home/ tmp/    HOME and TMPDIR of the steps
    caches/        what package managers have downloaded
    bin/           the `node` and the `twistedipc-say` that the build's steps find first
    channel/       with the UNIX socket on which the step that runs can say something
    out/           what the step of the platform's own that runs has found, until the runner takes it from there

The runner's bell to the builder is a datagram to the UNIX socket `Spec.doorbell`, sent after each append.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec

from twistedipc.attempts.journal import SHORTAGES, JournalReader, repair
from twistedipc.attempts.liveness import lock_held
from twistedipc.attempts.processes import kill_remains
from twistedipc.builds.attempt import (
    NPM,
    Cancel,
    Failure,
    FoundCommit,
    LiveFiles,
    Package,
    Permit,
    PermitWanted,
    Result,
    Secrets,
    SecretsWanted,
    Spec,
)
from twistedipc.disk.calls import DiskCalls
from twistedipc.disk.files import read_file, remove_tree, sync_folder, write_file

#: The folder with what the checkout step is given for a private repository.
CREDENTIALS = "credentials"

#: The file with the commit that is built, for those who watch.
COMMIT = "commit.json"

#: The file with the versions that packages must have.
VERSIONS = "versions.json"

#: The name of the file that says which contents needn't be packed.
STORED = "stored"

#: The file with what is known of the live release.
LIVE_FILES = "live-files.json"

#: The file in which the pack step leaves annotations for the log.
REMARKS = "remarks.json"

#: The file with what the step that pushes is to push.
RELEASE = "release.json"

#: The folder into which the steps of the platform's own write what they find.
OUT = "out"


def out_of(folder: Path) -> Path:
    """
    Return where a step of the platform's own writes what it finds. A runner of an older version, which may live through
    an upgrade, has no folder for that.
    """
    out = folder / OUT
    return out if out.is_dir() else folder


def package_file(target: str) -> str:
    """Return the name of the file with the `Package` for a target."""
    return "package.json" if target == NPM else f"package.{target}.json"


def write_packages(folder: Path, target: str, packages: Sequence[Package]) -> None:
    """Write down what was packed for a target. One package is written as it is, as older runners expect."""
    write_file(folder / package_file(target), packages[0] if len(packages) == 1 else packages)


def read_packages(folder: Path, target: str) -> list[Package]:
    """Return what was packed for a target; nothing if that wasn't written down. Raises `DecodeError`."""
    kind = cast("type[Package | list[Package]]", Package | list[Package])
    found = read_file(folder / package_file(target), kind)
    return found if isinstance(found, list) else [] if found is None else [found]


def step_failed(out: Path, error: Exception) -> int:
    """
    Say why a step of the platform's own has failed, in its output and in failure.json, and return its exit code. On a
    full disk only the output has the reason.
    """
    print(error, flush=True)
    try:
        write_file(out / "failure.json", Failure(reason=str(error)))
    except OSError as unwritten:
        print(f"failure.json can't be written: {unwritten.strerror}", flush=True)
    return 1


class AttemptFolder:
    """
    An attempt's folder, as the builder uses it. Everything but `path`, `name` and `archive` asks the disk and may raise
    OSError. A method that may take longer than one small file does has "Blocks" in its docstring.
    """

    def __init__(self, path: Path, *, disk: DiskCalls = os) -> None:
        self.path = path
        self._disk = disk

    @classmethod
    def create(cls, parent: Path, spec: Spec, *, disk: DiskCalls = os) -> AttemptFolder:
        """
        Write a new attempt down, durably, below ``parent``. Blocks. When that fails, no folder is left behind. Raises
        OSError, or what msgspec raises for a ``spec`` that can't be encoded.
        """
        folder = cls(parent / f"{spec.attempt}-{spec.lease}", disk=disk)
        folder.path.mkdir(mode=0o700)
        try:
            write_file(folder.path / "spec.json", spec, disk=disk)
            sync_folder(parent, disk=disk)
        except BaseException:
            # The disk is probably full, and the folders of declined offers would add up.
            remove_tree(folder.path)
            raise
        return folder

    @property
    def name(self) -> str:
        """The folder's name, which the runner sends when it rings."""
        return self.path.name

    @property
    def archive(self) -> Path:
        """The file with what was built, once the pack step has made it."""
        return self.path / "archive.tar.gz"

    def spec(self) -> Spec | None:
        """Return what is to be done; None in a folder that is half made or half deleted. Raises `DecodeError`."""
        return None if self.name.startswith(".") else read_file(self.path / "spec.json", Spec)

    def started(self) -> bool:
        """Return whether a runner was ever started, or was about to be."""
        return (self.path / "starting").exists()

    def mark_start(self) -> None:
        """Note, durably, that a runner is about to be started. Raises FileExistsError if that was noted before."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._disk.close(self._disk.open(self.path / "starting", flags, 0o600))
        sync_folder(self.path, disk=self._disk)

    def unmark_start(self) -> None:
        """Take `mark_start` back: there is no runner, and never was one."""
        (self.path / "starting").unlink(missing_ok=True)

    def runner_lives(self) -> bool:
        """Return whether the attempt's runner lives."""
        return lock_held(self.path)

    def has_result(self) -> bool:
        """Return whether the attempt's result is there, readable or not."""
        return (self.path / "result.json").exists()

    def result(self) -> Result | None:
        """
        Return the attempt's result; None if there is none that can be decoded. It is written whole or not at all, so
        one that can't be decoded is damaged, and counts as none.
        """
        try:
            return read_file(self.path / "result.json", Result)
        except msgspec.DecodeError:
            return None

    def write_result(self, result: Result) -> None:
        """Write the result in the runner's place."""
        write_file(self.path / "result.json", result, disk=self._disk)

    def conclude(self, now: int, *, cgroups: Sequence[str], give_up: bool) -> Result:
        """
        Return the result of an attempt whose runner has ended; written in its name, if it died before it could. Blocks.

        :param now: milliseconds since the epoch
        :param cgroups: the folders below which its control groups are
        :param give_up: take what can't be read, of the result and of the journal, for lost
        """
        try:
            result = self.result()
        except OSError as error:
            if not give_up or error.errno in SHORTAGES:
                raise
            result = None
        if result is not None:
            return result
        if self.runner_lives():
            raise BlockingIOError("its result can't be read, and its runner lives")
        kill_remains(self.path, cgroups)
        remove_tree(self.path / CREDENTIALS)
        journal = repair(self.path, give_up=give_up)
        errors = ""
        with contextlib.suppress(OSError):
            errors = (self.path / "runner.err").read_bytes()[-500:].decode("utf-8", "replace").strip()
        reason = "its runner died" + (f": {errors.splitlines()[-1]}" if errors else "")
        result = Result(
            outcome="lost", reason=reason, lines=journal.lines, sha256=journal.sha256, started=now, ended=now
        )
        self.write_result(result)
        return result

    def cancel(self, reason: str) -> None:
        """Tell the runner to end. A runner that is still being started finds it, too."""
        write_file(self.path / "cancel", Cancel(reason=reason), disk=self._disk)
        self._ring()

    def permit_wanted(self) -> PermitWanted | None:
        """Return what the runner asks to publish; None if it doesn't ask, or has its answer. Raises `DecodeError`."""
        if (self.path / "permit").exists():
            return None
        return read_file(self.path / "permit.wanted", PermitWanted)

    def permit(self, permit: Permit) -> None:
        """Give the runner the answer to its question for a permit."""
        write_file(self.path / "permit", permit, mode=0o600, disk=self._disk)
        self._ring()

    def found_commit(self) -> FoundCommit | None:
        """Return the commit that is built; None as long as the runner hasn't told it. Raises `DecodeError`."""
        return read_file(self.path / COMMIT, FoundCommit)

    def secrets_wanted(self) -> SecretsWanted | None:
        """Return what secrets the runner asks for; None if it doesn't ask. Raises `DecodeError`."""
        return read_file(self.path / "secrets.wanted", SecretsWanted)

    def give_secrets(self, secrets: Secrets) -> None:
        """Give the runner what it asked for. Blocks."""
        from twistedipc.attempts.handover import hand_over  # not above: steps import this module, and need no sockets

        hand_over(self.path, secrets)

    @property
    def has_stored(self) -> bool:
        """Whether it is known here which contents needn't be packed."""
        return (self.path / STORED).exists()

    def give_stored(self, contents: bytes, live: LiveFiles) -> None:
        """Write down which contents needn't be packed, and what the live release has. Blocks."""
        write_file(self.path / LIVE_FILES, live)
        temporary = self.path / f".{STORED}.new"
        temporary.write_bytes(contents)
        os.replace(temporary, self.path / STORED)

    def journal(self) -> JournalReader:
        """Return a reader of the attempt's journal."""
        return JournalReader(self.path)

    def remove(self, *, cgroups: Sequence[str] = ()) -> None:
        """Delete the folder, and end what runs in it. Only once the runner is gone. Blocks."""
        kill_remains(self.path, cgroups)
        # Renamed first, so that no builder finds a half-deleted folder under an attempt's name.
        doomed = self.path.with_name(f".{self.name}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.path, doomed)
        remove_tree(doomed)

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # no runner reads the FIFO yet: it looks at the files when it starts
            descriptor = os.open(self.path / "control", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                os.write(descriptor, b"\n")
            finally:
                os.close(descriptor)
