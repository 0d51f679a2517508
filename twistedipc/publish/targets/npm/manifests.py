"""
What a package.json says otherwise than the published one: what somebody who approves should see. Pure; used by
``compare``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from twistedipc.publish.targets.npm.dependencies import GROUPS

#: The scripts that npm runs where a package is installed.
INSTALL_SCRIPTS = ("preinstall", "install", "postinstall")

#: Other fields that decide how a package is used.
FIELDS = ("license", "type", "main", "module", "types", "typings", "exports", "bin", "engines", "os", "cpu")

_MOST = 200


def differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each difference."""
    mine, theirs = _table(now, "scripts"), _table(before, "scripts")
    for name in INSTALL_SCRIPTS:
        yield from _difference(f"the script {name}, which is run where the package is installed,", mine, theirs, name)
    for group in GROUPS:
        mine, theirs = _table(now, group), _table(before, group)
        for name in sorted(mine.keys() | theirs.keys()):
            yield from _difference(f"{group}: {name[:100]}", mine, theirs, name)
    for name in FIELDS:
        yield from _difference(name, now, before, name)


def _difference(what: str, now: Mapping[str, Any], before: Mapping[str, Any], name: str) -> Iterator[str]:
    if name not in before and name in now:
        yield f"{what} is new: {_shown(now[name])}"
    elif name in before and name not in now:
        yield f"{what} is gone: it was {_shown(before[name])}"
    elif name in before and now[name] != before[name]:
        yield f"{what} was {_shown(before[name])}, and is {_shown(now[name])}"


def _table(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = manifest.get(name)
    return found if isinstance(found, dict) else {}


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= _MOST else text[:_MOST] + "…"
