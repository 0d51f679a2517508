"""Settings as a ``.twistedipc.toml``. Pure."""

from __future__ import annotations

import re

import msgspec

from twistedipc.cli.importing.imported import Imported

_BARE = re.compile(r"[A-Za-z0-9_-]+")
#: The characters that TOML has to have escaped in a string: controls, quotes and backslashes.
_ESCAPED = re.compile(r'[\x00-\x1f\x7f"\\]')
_SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def as_toml(imported: Imported) -> str:
    """Return what was found as a file; "" if it is nothing."""
    settings = msgspec.to_builtins(imported.found)
    lines: list[str] = []
    if settings:
        lines += ["[build]", *(f"{key} = {_value(value)}" for key, value in settings.items())]
    if imported.environment:
        lines += [""] if lines else []
        lines += ["[build.environment]"]
        lines += [f"{_key(name)} = {_value(value)}" for name, value in imported.environment.items()]
    return "\n".join([*lines, ""]) if lines else ""


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return '"' + _ESCAPED.sub(lambda found: _SHORT.get(found[0], f"\\u{ord(found[0]):04x}"), str(value)) + '"'


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)
