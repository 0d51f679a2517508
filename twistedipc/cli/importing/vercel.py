"""
``vercel.json`` -> settings. Pure. https://vercel.com/docs/project-configuration has the keys; most of them are of the
host's functions and routes, which a static site doesn't have.
"""

from __future__ import annotations

from typing import Any

from twistedipc.builds.recognition.frameworks import BY_NAME
from twistedipc.cli.importing.commands import kind_of
from twistedipc.cli.importing.imported import Imported, quoted
from twistedipc.cli.importing.positions import Document, read_json
from twistedipc.cli.importing.redirects import is_fallback
from twistedipc.cli.importing.rules import vercel_headers, vercel_redirect, vercel_rewrite

FILE = "vercel.json"

#: Keys that say nothing of how a project is built, or what is so here anyway, or why they can't be carried over.
_NEEDLESS = frozenset({"$schema", "version", "name", "alias", "scope", "public", "devCommand"})
_LEFT = {
    "ignoreCommand": "isn't carried over: set `watch`, the paths whose changes are built",
    "functions": "aren't carried over: the platform serves static sites, and runs no functions",
    "crons": "aren't carried over: the platform runs no functions",
    "regions": "aren't carried over: builds run where the builders are",
    "images": "isn't carried over: images are served as they are",
    "git": "isn't carried over: a build begins when it is asked for",
    "github": "isn't carried over: a build begins when it is asked for",
    "builds": "isn't carried over: the commands of a build are `install` and `build`",
    "routes": "aren't carried over: say them as redirects, rewrites and headers, which are",
}

#: Keys that say how the site is served.
_SITE = frozenset({"cleanUrls", "trailingSlash", "redirects", "rewrites", "headers"})

#: Names of frameworks that aren't those of `recognition.frameworks`.
_FRAMEWORKS = {
    "nextjs": "next",
    "nuxtjs": "nuxt",
    "vue": "vue-cli",
    "docusaurus-2": "docusaurus",
    "sveltekit-1": "sveltekit",
    "solidstart": "solid-start",
    "solidstart-1": "solid-start",
    "umijs": "umi",
}


def read_vercel(data: bytes, into: Imported) -> None:
    """Read a ``vercel.json``. Raises `Unreadable`."""
    document = read_json(data)
    for key, value in document.values.items():
        line = document.line(key)
        match key:
            case "buildCommand" | "installCommand":
                _command(key.removesuffix("Command"), value, line, into)
            case "outputDirectory":
                if isinstance(value, str):
                    into.set("output", value, FILE, line)
            case "framework":
                _framework(value, line, into)
            case "env" | "build":
                _environment(document, value if key == "env" else _part(value, "env"), line, into)
            case _ if key in _SITE:
                _serving(document, key, value, line, into)
            case _ if key not in _NEEDLESS and value not in (None, [], {}):
                into.leave(FILE, line, f"{quoted(key)} {_LEFT.get(key, 'is nothing that is known here')}")


def _serving(document: Document, key: str, value: object, line: int, into: Imported) -> None:
    """What is said of how the site is served."""
    match key:
        case "cleanUrls":
            into.set("clean_urls", value is True, FILE, line)
        case "trailingSlash":
            into.set("trailing_slash", "always" if value is True else "never", FILE, line)
        case "rewrites":
            _rewrites(document, value, line, into)
        case _:
            carry = vercel_redirect if key == "redirects" else vercel_headers
            for number, rule in enumerate(value if isinstance(value, list) else []):
                carry(rule if isinstance(rule, dict) else {}, FILE, document.line("source", line - 1, number), into)


def _framework(value: object, line: int, into: Imported) -> None:
    if not isinstance(value, str):  # null: none, and the commands say all
        return
    name = _FRAMEWORKS.get(value, value)
    if name in BY_NAME:
        into.set("framework", name, FILE, line)
    else:
        into.leave(FILE, line, f"the framework {quoted(value)} isn't carried over: there is no such name here")


def _command(key: str, value: object, line: int, into: Imported) -> None:
    if not isinstance(value, str):  # null: the host's default
        return
    if key == "install" and kind_of(value) == "needless":
        return
    into.set(key, value, FILE, line)


def _rewrites(document: Document, value: object, line: int, into: Imported) -> None:
    for number, rule in enumerate(value if isinstance(value, list) else []):
        source, target = str(_part(rule, "source")), str(_part(rule, "destination"))
        at = document.line("source", line - 1, number)
        if is_fallback(source, target, 200) and not _part(rule, "has"):
            into.set("spa", True, FILE, at)
        else:
            vercel_rewrite(rule if isinstance(rule, dict) else {}, FILE, at, into)


def _environment(document: Document, value: object, line: int, into: Imported) -> None:
    for name, content in value.items() if isinstance(value, dict) else ():
        at = document.line(name, line - 1) or line
        if not isinstance(content, str) or content.startswith("@"):
            into.leave(FILE, at, f"{quoted(name)} is a secret: give it to the project as one (project secret set)")
        else:
            into.set_variable(name, content, FILE, at)


def _part(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else None
