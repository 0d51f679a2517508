"""
What was chosen and isn't in the store yet -> the store. Used by the step.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from twistedipc.builds.attempt import ToolSettings
from twistedipc.builds.lint import Linter
from twistedipc.registries.npmrc import NoRegistry, read_npmrc
from twistedipc.toolchains.choose import Chooser, Pick
from twistedipc.toolchains.integrity import check_manager
from twistedipc.toolchains.linter import PARTS, Part, find, with_hash
from twistedipc.toolchains.machine import Machine
from twistedipc.toolchains.problems import BadIntegrity, NoPackage, RegistryError, ToolProblem
from twistedipc.toolchains.ready import toolchain
from twistedipc.toolchains.registry import DOWNLOAD, Registry
from twistedipc.toolchains.store import Downloaded, Entry, Index, Store
from twistedipc.toolchains.wanted import Toolchain, Wanted

#: Seconds to wait for another process that fetches the same.
PATIENCE = 2 * DOWNLOAD


class Fetching:
    """
    Prepares the tools of one build.

    :param operator: the operator's variables for all steps
    :param path: PATH of the steps
    :param home: the build's home
    :param say: takes a line for the log
    :param now: milliseconds since the epoch
    """

    def __init__(
        self,
        settings: ToolSettings,
        operator: Mapping[str, str],
        path: str,
        machine: Machine,
        home: Path,
        *,
        say: Callable[[str], None],
        now: Callable[[], int],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._operator = operator
        self._path = path
        self._machine = machine
        self._home = home
        self._say = say
        self._now = now
        self._sleep = sleep
        self._store = Store(Path(settings.folder), now=now)
        self._connected: Registry | None = None

    def prepare(self, wanted: Wanted) -> Toolchain:
        """Return what the steps of the build get; all of it is there then. Raises `ToolProblem`, or OSError."""
        chooser = Chooser(self._settings, self._store, self._machine, look_up=self._look_up, now=self._now)
        choice = chooser.choose(wanted)
        fetched = False
        for pick in choice.picks:
            if pick.source is None:
                continue
            if pick.place == "registry" or not self._store.use(pick.source.package, pick.version.text):
                entry = self._fetch(pick)
                fetched = True
                if wanted.integrity and pick.tool == wanted.manager:
                    check_manager(entry.hashes(pick.source), wanted.integrity)
        linter, more = self._linter() if wanted.linter else (None, False)
        if fetched or more:
            for entry in self._store.clean():
                self._say(f"the builder's store no longer has {entry.package} {entry.version}: no build used it lately")
        found = toolchain(choice, self._store, self._operator, self._machine, self._home)
        return replace(found, linter=linter)

    def _linter(self) -> tuple[Linter, bool]:
        """Return publint, or why it can't be had, which fails no build; and whether something was fetched for that."""
        linter = find(self._settings, self._store, self._now)
        if linter is not None:
            return linter, False
        try:
            for part in PARTS:
                if not self._store.use(part.package, part.version):
                    self._fetch_part(part)
        except (ToolProblem, RegistryError) as error:
            self._store.note_unanswered(PARTS[0].package)
            return Linter(why=f"it can't be fetched: {error}"), True
        return find(self._settings, self._store, self._now) or Linter(why="another process has just removed it"), True

    def _fetch_part(self, part: Part) -> None:
        def download(archive: Path) -> Downloaded:
            release = self._registry.look_up(part.package).releases.get(part.version)
            if release is None:
                raise ToolProblem(f"{self._registry.shown} has no {part.package} {part.version}")
            self._say(f"fetching {part.package} {part.version} from {self._registry.shown} …")
            return Downloaded(
                self._registry.download(part.package, part.version, with_hash(part, release), archive), {}
            )

        self._store.add(part.source, part.version, download, patience=PATIENCE)

    @property
    def _registry(self) -> Registry:
        if self._connected is None:
            try:
                npmrc = read_npmrc(
                    self._operator,
                    userconfig=self._settings.userconfig,
                    registry=self._settings.registry,
                    npm=self._machine.find("npm"),
                    path=self._path,
                )
            except NoRegistry as error:
                raise ToolProblem(str(error)) from error
            self._connected = Registry(npmrc, self._operator, now=self._now, sleep=self._sleep)
        return self._connected

    def _look_up(self, package: str) -> Index:
        try:
            index = self._registry.look_up(package)
        except RegistryError:
            self._store.note_unanswered(package)
            raise
        self._store.note_index(index)
        return index

    def _fetch(self, pick: Pick) -> Entry:
        source, version = pick.source, pick.version.text
        assert source is not None

        def download(archive: Path) -> Downloaded:
            release = pick.release or self._look_up(source.package).releases.get(version)
            if release is None:
                raise ToolProblem(f"{source.package} {version} is neither in the builder's store nor in the registry")
            self._say(f"fetching {source.package} {version} from {self._registry.shown} …")
            try:
                digests = self._registry.download(source.package, version, release, archive)
            except (BadIntegrity, NoPackage):
                # What the registry said some days ago may no longer be true.
                again = self._look_up(source.package).releases.get(version)
                if again is None or again == release:
                    raise
                digests = self._registry.download(source.package, version, again, archive)
            return Downloaded(digests, self._other_hashes(source.hashed_package, version, archive))

        try:
            return self._store.add(
                source,
                version,
                download,
                patience=PATIENCE,
                waiting=lambda: self._say(f"another build is fetching {source.package} {version}: waiting for it …"),
            )
        except ToolProblem as error:
            raise type(error)(f"{pick.tool} {version} ({pick.why}) can't be fetched: {error}") from error

    def _other_hashes(self, package: str, version: str, beside: Path) -> dict[str, str]:
        """The hashes of the package of which packageManager has one, where that isn't the one that is fetched."""
        if not package:
            return {}
        archive = beside.with_suffix(".other")
        # Without it only a project that gives a hash has something to lose, and hears that it can't be checked.
        try:
            with contextlib.suppress(ToolProblem):
                release = self._registry.look_up(package).releases.get(version)
                if release is not None:
                    return self._registry.download(package, version, release, archive)
        finally:
            archive.unlink(missing_ok=True)
        return {}
