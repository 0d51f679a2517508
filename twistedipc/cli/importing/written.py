"""Settings as a ``.twistedipc.toml``. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from twistedipc.builds.site.rules import HeaderRule, Redirect
from twistedipc.cli.importing.imported import Imported

#: Settings that are written under ``[site]``.
_OF_SITE = frozenset({"trailing_slash", "clean_urls"})

_BARE = re.compile(r"[A-Za-z0-9_-]+")
#: The characters that TOML has to have escaped in a string: controls, quotes and backslashes.
_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def as_toml(imported: Imported) -> str:
    """Return what was found as a file; "" if it is nothing."""
    settings: dict[str, object] = msgspec.to_builtins(imported.found)
    build = {key: value for key, value in settings.items() if key not in _OF_SITE}
    site = {key: value for key, value in settings.items() if key in _OF_SITE}
    tables = [
        _table("[build]", build),
        _table("[build.environment]", imported.environment),
        _table("[site]", site),
        *(_table("[[site.redirects]]", _redirect(rule)) for rule in imported.redirects),
        *(_table("[[site.headers]]", {"for": rule.source, "values": _values(rule)}) for rule in imported.headers),
    ]
    return "\n".join(filter(None, tables))


def _redirect(rule: Redirect) -> dict[str, object]:
    said: dict[str, object] = {"from": rule.source}
    said |= {"to": rule.target} if rule.target else {}
    said |= {"status": rule.status} if rule.status != 301 else {}
    said |= {"force": True} if rule.force else {}
    return said | ({"query": rule.query} if rule.query else {})


def _values(rule: HeaderRule) -> dict[str, object]:
    """The headers by name; one that is said several times has a list."""
    found: dict[str, list[str]] = {}
    for name, value in rule.values:
        found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _table(head: str, values: Mapping[str, object]) -> str:
    """A table with its lines; "" if it has none."""
    return "\n".join([head, *(f"{_key(key)} = {_value(value)}" for key, value in values.items()), ""]) if values else ""


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_key(name)} = {_value(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return '"' + _ESCAPED.sub(lambda found: _SHORT.get(found[0], f"\\u{ord(found[0]):04x}"), str(value)) + '"'


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)
