"""
What a package's dependencies are given as, and whether npm can install that anywhere but in the repository that they
come from. Pure; used by ``package``.

npm packs package.json as it is. So ``workspace:^`` and ``catalog:``, which pnpm, yarn and bun replace when *they* pack,
would be published, and the package couldn't be installed. The rules are those of npm's own reader (npm-package-arg).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

#: The groups that are installed with a package. What it is developed with (``devDependencies``) may be anything.
GROUPS = ("dependencies", "optionalDependencies", "peerDependencies")

_PROTOCOL = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_LOCAL_PATH = re.compile(r"(?:\.|~/|/|[a-z]:[/\\])", re.IGNORECASE)
_ARCHIVE = re.compile(r"\.(?:tgz|tar\.gz|tar)\Z", re.IGNORECASE)
_HOSTED = re.compile(r"[^/@\s:]+/[^/\s:#]+(?:#.*)?\Z")

#: Protocols that npm installs from, wherever it runs.
_KNOWN = frozenset(
    "npm http https git git+ssh git+https git+http git+rsync git+ftp ssh github gitlab bitbucket gist sourcehut".split()
)

#: protocol -> the package managers that replace it when they pack
_REPLACED_BY = {
    "workspace": "pnpm, yarn and bun replace it when they pack; npm doesn't",
    "catalog": "pnpm, yarn and bun replace it when they pack; npm doesn't",
}


def find_uninstallable(manifest: Mapping[str, object]) -> Iterator[str]:
    """A sentence for each dependency of a package.json that can't be installed from a registry."""
    for group in GROUPS:
        entries = manifest.get(group)
        if not isinstance(entries, dict):
            continue
        for name, spec in entries.items():
            why = why_uninstallable(spec)
            if why:
                shown = f'"{spec[:100]}"' if isinstance(spec, str) else str(spec)[:100]
                yield f'{group}["{name[:100]}"] is {shown}: {why}'


def why_uninstallable(spec: object) -> str:
    """Why what a dependency is given as can't be installed from elsewhere; "" if it can."""
    if not isinstance(spec, str):
        return "it must be a string"
    spec = spec.strip()
    protocol = _PROTOCOL.match(spec)
    scheme = protocol[1].lower() if protocol is not None else ""
    if scheme == "npm":
        # An alias: "npm:NAME@RANGE". A scope's @ is its first character.
        _name, _at, aliased = spec[len("npm:") + 1 :].partition("@")
        return why_uninstallable(aliased)
    if scheme in ("file", "git+file", "link", "portal") or _LOCAL_PATH.match(spec):
        return "it is a path, which only this repository has"
    if scheme and scheme not in _KNOWN:
        return _REPLACED_BY.get(scheme, f"npm can't install from {scheme}:")
    if not scheme and (_ARCHIVE.search(spec) or "/" in spec) and not _is_remote(spec):
        return "npm takes it for a path, which only this repository has"
    return ""


def _is_remote(spec: str) -> bool:
    """Return whether npm takes this for a git repository: USER/REPOSITORY, or what ssh takes (git@HOST:PATH)."""
    return _HOSTED.match(spec) is not None or re.match(r"[^@\s/]+@[^:.\s]+\.[^:\s]+:.+\Z", spec) is not None
