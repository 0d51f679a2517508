"""
The names of packages: which ones npm takes, which of these a new package may have, and which people can't tell apart.
Pure. The rules are those of npm's package ``validate-npm-package-name``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from twistedipc.builds.names import MAX_PACKAGE, is_package, shown

#: Names of Node's own modules: `require` finds these, and never a package.
_NODES = frozenset(
    """
    assert async_hooks buffer child_process cluster console constants crypto dgram diagnostics_channel dns domain events
    fs http http2 https inspector module net os path perf_hooks process punycode querystring readline repl stream
    string_decoder sys timers tls trace_events tty url util v8 vm wasi worker_threads zlib
    """.split()
)

#: Names that no package has ever been able to have.
_NEVER = frozenset(("node_modules", "favicon.ico"))

#: The most of a name's characters that a sentence explains.
_MOST_SHOWN = 3


def same_looking(name: str) -> str:
    """Return what is equal for names that people, or a disk, can't tell apart: by case, and by forms of Unicode."""
    return unicodedata.normalize("NFKC", name).casefold()


def why_none(name: str) -> str:
    """Return why npm takes no package of this name, in a clause; "" if it takes one."""
    if is_package(name):
        return ""
    if not name:
        return "it has none"
    if len(name) > MAX_PACKAGE:
        return f"it has more than {MAX_PACKAGE} characters"
    foreign = list(dict.fromkeys(each for each in name if not "!" <= each <= "~"))
    if foreign:
        return f"{shown(name, MAX_PACKAGE)} has {', '.join(map(_described, foreign[:_MOST_SHOWN]))} in it"
    return (
        f'{name} isn\'t one: it has letters, digits, ".", "_", "-" and "~", begins with a letter, a digit or "~", and '
        "may have a scope like @acme/ before it, in small letters"
    )


def why_not_new(name: str) -> str:
    """
    Return why no new package can have a name that npm takes, in a clause; "" if one can. Packages that are older than
    these rules have such names, and get new versions.
    """
    last = name.rpartition("/")[2]
    if name != name.lower():
        return "it has capital letters"
    if "~" in last:
        return 'it has "~"'
    if name in _NODES:
        return "it is the name of a module of Node's own"
    if name in _NEVER:
        return "package managers use it for something else"
    return ""


def alike(name: str, others: Iterable[str]) -> list[str]:
    """Return those of other names that people, or a disk, can't tell from this one."""
    return sorted({each for each in others if each != name and same_looking(each) == same_looking(name)})


def _described(character: str) -> str:
    """A character by its name in Unicode: many look like others, or can't be seen."""
    name = unicodedata.name(character, "a character without a name")
    return f"U+{ord(character):04X} ({name})"
