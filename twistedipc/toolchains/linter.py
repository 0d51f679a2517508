"""
publint, which looks at the packages that builds publish: in the store, or why it isn't. Used by ``ready`` and
``fetch``.

It comes as package managers do, from the package registry. Each of its packages has one version, and is known by its
hash: nothing else is ever run, whatever a registry says. Newer versions are put into `PARTS`, each with what `npm view
NAME@VERSION dist.integrity` says, once ``tests/integration/test_from_store.py`` is well with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twistedipc.builds.attempt import ToolSettings
from twistedipc.builds.lint import Linter
from twistedipc.toolchains.packages import Source
from twistedipc.toolchains.store import Release, Store

#: Milliseconds for which the registry isn't asked for it again, after it couldn't be had.
UNANSWERED = 3_600_000


class Part(NamedTuple):
    """A package of publint's."""

    package: str
    version: str
    integrity: str

    @property
    def source(self) -> Source:
        """The package without commands: it is imported."""
        return Source(self.package, 0, None, {})


#: Those without which publint doesn't start, as it is started in ``publish.targets.npm.linting``.
PARTS = (
    Part(
        "publint",
        "0.3.25",
        "sha512-WMMbn/d7JqRlfXQL/JUI4n5skC8cJ5WVr8/wT5mmiYWkUdENkZr1I5rgs2+dQPVRgoJd+JRYtB46MTsuDylw9g==",
    ),
    Part(
        "@publint/pack",
        "0.1.7",
        "sha512-4EDEmvxWtgsCnnVeBvtFIFZtUhPPt1+bA9JrSwU4Sa//6oKtzCSlGGXYJr44OD9aGISymbieJ4mCKHUygUDU+g==",
    ),
    Part(
        "picocolors",
        "1.1.1",
        "sha512-xceH2snhtb5M9liqDsmEw56le376mTZkEX/jEb/RxNFyegNul7eNslCXP9FDj/Lcu0X8KEyMceP2ntpaHrDEVA==",
    ),
)


def with_hash(part: Part, release: Release) -> Release:
    """Return what the registry says of a part, with the hash that it must have."""
    return Release(tarball=release.tarball, integrity=part.integrity)


def find(settings: ToolSettings, store: Store, now: Callable[[], int]) -> Linter | None:
    """Return publint, or why there is none; None if it should be fetched. Raises OSError."""
    if not settings.publint:
        return Linter(why="the builder's operator has switched it off: [toolchains] publint in builder.toml")
    if all(store.use(part.package, part.version) for part in PARTS):
        folders = {part.package: str(store.path(part.package, part.version) / "package") for part in PARTS}
        return Linter(version=PARTS[0].version, packages=folders)
    if settings.offline:
        return Linter(why="it isn't in the builder's store, and the builder may fetch nothing")
    if abs(now() - _failed(store)) < UNANSWERED:
        return Linter(why="it isn't in the builder's store, and couldn't be fetched within the last hour")
    return None


def _failed(store: Store) -> float:
    return max(store.unanswered(part.package) for part in PARTS)
