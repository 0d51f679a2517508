"""
The policy: which Node and which manager a build gets. It fetches nothing, and asks the registry only by a function that
it is given. Used by ``ready`` and ``fetch``.

- A tool on the PATH of the builder's steps is used if it fits what the project asks for, or if that asks for nothing.
- Else the newest in the store that fits is used. If the registry wasn't asked for as long as `FRESH`, it is asked for a
  newer one of the same major version, so that corrections arrive.
- Else the newest that fits is fetched.
- Where several versions of a manager fit, it is one that works with the project's Node. A project that asks for no Node
  gets one that works with its manager.
- Beside a Node of the store there is the npm that comes with it, unless the project names another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import msgspec

from twistedipc.builds.attempt import ToolSettings
from twistedipc.toolchains.integrity import check_manager
from twistedipc.toolchains.machine import Machine
from twistedipc.toolchains.packages import Source, bundled_npm, sources
from twistedipc.toolchains.problems import BadRange, NoPackage, NoTool, RegistryError
from twistedipc.toolchains.store import Index, Release, Store
from twistedipc.toolchains.versions import ANY_LTS, Range, Version, nearest, version
from twistedipc.toolchains.wanted import Wanted

#: Milliseconds for which the registry isn't asked again whether it has a newer version of what is in the store.
FRESH = 7 * 86_400_000


#: Milliseconds for which the registry isn't asked for that, after it didn't answer.
UNANSWERED = 3_600_000


class Pick(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that was chosen."""

    tool: str
    version: Version
    place: Literal["path", "store", "registry"]
    why: str
    source: Source | None = None  # None: it is on the PATH
    release: Release | None = None  # if it is to be fetched
    node: str = ""  # the range of the Node that it needs
    hashes: dict[str, str] = {}  # of what packageManager has the hash of, where it is in the store

    def said(self) -> str:
        """Return a line for the log."""
        place = {"path": "on the builder's PATH", "store": "in the builder's store", "registry": "from the registry"}
        return f"{self.tool} {self.version}, {place[self.place]}: {self.why}"


class Choice(NamedTuple):
    """What a build gets."""

    picks: list[Pick]  # the manager first, then what is beside it, Node last
    remarks: list[str]  # warnings, for the log


class _Found(NamedTuple):
    """A version that could be taken."""

    version: Version
    source: Source
    node: str
    release: Release | None
    hashes: dict[str, str]


class _Wish(NamedTuple):
    """A tool that is wanted."""

    tool: str
    range: Range
    why: str
    beside: Version | None = None  # the Node with which it should work
    within: Range | None = None  # a second range that it must be in
    on_path: bool = True  # whether the one on the PATH will do

    def __str__(self) -> str:
        return f"{self.tool} {self.range}" + (f" ({self.why})" if self.why else "")


class Chooser:
    """
    Chooses for one build.

    :param look_up: asks the registry for the versions of a package; raises `RegistryError`, or whatever the caller of
        `choose` wants to hear if the registry would have to be asked
    :param now: milliseconds since the epoch
    """

    def __init__(
        self,
        settings: ToolSettings,
        store: Store,
        machine: Machine,
        *,
        look_up: Callable[[str], Index],
        now: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._store = store
        self._machine = machine
        self._look_up = look_up
        self._now = now
        self._forbidden = [_rule(rule) for rule in settings.forbid]
        self._remarks: list[str] = []
        self._asked: dict[str, Index] = {}

    def choose(self, wanted: Wanted) -> Choice:
        """
        Return what a build gets: no pick at all if the project asks for nothing. Raises `ToolProblem`, and what
        ``look_up`` raises.
        """
        if not wanted.manager and not wanted.node:
            return Choice([], [])
        named = wanted.manager and (wanted.manager != "npm" or wanted.version)
        asked = wanted.node or self._settings.node
        manager: Pick | None = None
        if asked or not named:
            node = self._node(wanted)
            if named:
                manager = self._manager(wanted, node.version)
        else:
            here = self._here("node", _Wish("node", Range(""), ""))
            manager = self._manager(wanted, here.version if here is not None else None)
            node = self._node_for(manager, here)
        if manager is not None:
            self._check(wanted, manager, node)
        npm = self._npm(node) if manager is None or manager.tool != "npm" else None
        return Choice([pick for pick in (manager, npm, node) if pick is not None], self._remarks)

    # -- each tool

    def _node(self, wanted: Wanted) -> Pick:
        if wanted.node:
            why = wanted.node_why or "the project asks for it"
            return self._pick(_Wish("node", _asked("node", wanted.node, why), why))
        if self._settings.node:
            return self._pick(_Wish("node", Range(self._settings.node), "the builder's default"))
        here = self._here("node", _Wish("node", Range(""), "the project asks for none"))
        return here or self._pick(_Wish("node", Range(ANY_LTS), "the project asks for none"))

    def _node_for(self, manager: Pick, here: Pick | None) -> Pick:
        if here is not None and _admits(manager.node, here.version):
            return msgspec.structs.replace(here, why="the project asks for none")
        if not manager.node:
            return self._pick(_Wish("node", Range(ANY_LTS), "the project asks for none"))
        why = f"{manager.tool} {manager.version} needs {manager.node}"
        needs = Range(manager.node)
        try:
            return self._pick(_Wish("node", Range(ANY_LTS), why, within=needs))
        except NoTool:
            return self._pick(_Wish("node", needs, why))

    def _manager(self, wanted: Wanted, beside: Version | None) -> Pick:
        why = wanted.manager_why or "the project asks for it"
        # One on the PATH isn't known by a hash.
        range = _asked(wanted.manager, wanted.version, why)
        wish = _Wish(wanted.manager, range, why, beside, on_path=not wanted.integrity)
        return self._pick(wish)

    def _npm(self, node: Pick) -> Pick:
        wish = _Wish("npm", Range(bundled_npm(node.version)), f"it comes with Node {node.version.major}")
        if node.place == "path":
            here = self._here("npm", wish._replace(range=Range(""), why="the project names no other"))
            if here is not None:
                return here
        return self._pick(wish._replace(on_path=False))

    def _check(self, wanted: Wanted, manager: Pick, node: Pick) -> None:
        if wanted.integrity and manager.place == "store":
            check_manager(manager.hashes, wanted.integrity)
        if not _admits(manager.node, node.version):
            self._remarks.append(
                f"{manager.tool} {manager.version} ({manager.why}) needs Node {manager.node}, and this is Node "
                f"{node.version} ({node.why})"
            )

    # -- choosing one

    def _pick(self, wish: _Wish) -> Pick:
        if wish.on_path and (here := self._here(wish.tool, wish)) is not None:
            return here
        found = sources(wish.tool, self._machine.kind)
        best = _best(self._stored(wish, found), wish)
        if best is None:
            return self._from_registry(wish, found)
        newer = self._newer(wish, best) if wish.range.exact is None else None
        return _picked(wish, newer or best)

    def _here(self, tool: str, wish: _Wish) -> Pick | None:
        """The one on the PATH, if it fits."""
        installed = self._machine.installed(tool)
        if installed is None or not self._fits(wish, installed.version):
            return None
        if wish.beside is not None and wish.range.exact is None and not _admits(installed.node, wish.beside):
            return None
        return Pick(tool=tool, version=installed.version, place="path", why=wish.why, node=installed.node)

    def _stored(self, wish: _Wish, found: list[Source]) -> Iterable[_Found]:
        for source in found:
            for candidate in self._store.versions(source.package):
                if source.has(candidate) and self._fits(wish, candidate):
                    entry = self._store.entry(source.package, candidate.text)
                    if entry is not None:
                        yield _Found(candidate, source, entry.node, None, entry.hashes(source))

    def _newer(self, wish: _Wish, best: _Found) -> _Found | None:
        """A newer one than that of the store, if the registry has one of the same major version."""
        try:
            index = self._index(best.source.package)
        except RegistryError as error:
            self._remarks.append(f"{error}. So {wish.tool} {best.version} of the builder's store is used")
            return None
        if index is None:
            return None
        newer = [
            each
            for each in self._released(wish, best.source, index)
            if best.version < each.version and each.version.major == best.version.major
        ]
        chosen = _best(newer, wish)
        if chosen is None or (wish.beside is not None and not _admits(chosen.node, wish.beside)):
            return None
        return chosen

    def _from_registry(self, wish: _Wish, found: list[Source]) -> Pick:
        if self._settings.offline:
            raise NoTool(
                f"{wish} isn't in the builder's store ({self._in_store(found)}), and the builder may fetch nothing: "
                "[toolchains] offline is set in builder.toml"
            )
        likely = [source for source in found if source.may_have(wish.range)]
        missing: NoPackage | None = None
        known: list[Version] = []
        for source in likely or found:
            try:
                index = self._index_with(source, wish)
            except NoPackage as error:
                missing = error
                continue
            except RegistryError as error:
                raise RegistryError(
                    f"{wish} isn't in the builder's store ({self._in_store(found)}), and {error}"
                ) from (error)
            chosen = _best(self._released(wish, source, index), wish)
            if chosen is not None:
                return _picked(wish, chosen)
            known += [each for each in index.versions() if source.has(each)]
        if missing is not None and not known:
            raise NoTool(f"{wish} can't be had for this machine ({self._machine.kind}): {missing}") from missing
        raise NoTool(self._none_fits(wish, known))

    def _none_fits(self, wish: _Wish, known: list[Version]) -> str:
        if any(wish.range.admits(each) for each in known):
            rules = ", ".join(rule for rule in self._settings.forbid if rule.partition("@")[0] == wish.tool)
            if rules:
                return f"{wish} is forbidden on this builder: [toolchains] forbid in builder.toml has {rules}"
        near = nearest(wish.range, known)
        if not near:
            return f"{wish} doesn't exist: the registry has no version of {wish.tool} for this machine"
        only = "only " if len(known) <= len(near) else ""
        there = ", ".join(near[:-1]) + (" and " if near[:-1] else "") + near[-1]
        return f"{wish} doesn't exist in the package registry: near it, the registry has {only}{there}"

    # -- what there is

    def _index(self, package: str) -> Index | None:
        """What the registry has, asked if that is too long ago; None if it may not be asked."""
        if package in self._asked:
            return self._asked[package]
        index = self._store.index(package)
        if index is not None and abs(self._now() - index.asked) < FRESH:
            return index
        # Else each build would wait for a registry that can't be reached, though it can do without.
        lately = abs(self._now() - self._store.unanswered(package)) < UNANSWERED
        return None if self._settings.offline or lately else self._ask(package)

    def _index_with(self, source: Source, wish: _Wish) -> Index:
        """What the registry has. It is asked unless what it had before will do."""
        before = self._asked.get(source.package) or self._store.index(source.package)
        known = before is not None and (wish.range.exact is not None or abs(self._now() - before.asked) < FRESH)
        if before is not None and known and self._released(wish, source, before):
            return before
        return self._asked.get(source.package) or self._ask(source.package)

    def _ask(self, package: str) -> Index:
        index = self._asked[package] = self._look_up(package)
        return index

    def _released(self, wish: _Wish, source: Source, index: Index) -> list[_Found]:
        found = []
        for text, release in index.releases.items():
            candidate = version(text)
            if candidate is not None and source.has(candidate) and self._fits(wish, candidate):
                found.append(_Found(candidate, source, release.node if source.script else "", release, {}))
        good = [each for each in found if each.release is not None and not each.release.deprecated]
        return good or found

    def _fits(self, wish: _Wish, candidate: Version) -> bool:
        if wish.within is not None and not wish.within.admits(candidate):
            return False
        if any(tool == wish.tool and range.admits(candidate) for tool, range in self._forbidden):
            return False
        return wish.range.admits(candidate)

    def _in_store(self, found: list[Source]) -> str:
        there = sorted(each for source in found for each in self._store.versions(source.package))
        return f"it has {', '.join(str(each) for each in there[-5:])}" if there else "it has none"


def _picked(wish: _Wish, found: _Found) -> Pick:
    return Pick(
        tool=wish.tool,
        version=found.version,
        place="store" if found.release is None else "registry",
        why=wish.why,
        source=found.source,
        release=found.release,
        node=found.node,
        hashes=found.hashes,
    )


def _best(found: Iterable[_Found], wish: _Wish) -> _Found | None:
    """The newest; one that works with the Node that is there comes before all others."""
    return max(
        found,
        key=lambda each: (wish.beside is None or _admits(each.node, wish.beside), each.version),
        default=None,
    )


def _admits(node: str, candidate: Version) -> bool:
    """Whether a tool that needs this range of Node works with one, as far as it says so."""
    try:
        return not node or Range(node).admits(candidate)
    except BadRange:
        return True


def _asked(tool: str, text: str, why: str) -> Range:
    """The range that a project asks for. Raises `BadRange`, which says what asks for it."""
    try:
        return Range(text)
    except BadRange as error:
        raise BadRange(f"{tool} can't be chosen ({why}): {error}") from error


def _rule(rule: str) -> tuple[str, Range]:
    """A rule of ``forbid``: "node@<20", or "yarn". Raises `BadRange`."""
    tool, _, range = rule.partition("@")
    return tool, Range(range)
