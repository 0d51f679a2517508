"""
``netlify.toml`` -> settings. Pure. https://docs.netlify.com/build/configure-builds/file-based-configuration has the
keys. ``publish`` is relative to ``base`` there, as the output is to the root here.
"""

from __future__ import annotations

from typing import Any

from twistedipc.cli.importing.commands import kind_of
from twistedipc.cli.importing.imported import Imported, quoted
from twistedipc.cli.importing.positions import Document, read_toml
from twistedipc.cli.importing.redirects import is_fallback
from twistedipc.cli.importing.rules import netlify_headers, netlify_redirect

FILE = "netlify.toml"

_MANAGERS = {"NPM_VERSION": "npm", "YARN_VERSION": "yarn", "PNPM_VERSION": "pnpm", "BUN_VERSION": "bun"}

#: Variables that only Netlify's own programs read.
_NEEDLESS = frozenset({"CI", "NETLIFY_USE_YARN", "NETLIFY_USE_PNPM", "NETLIFY_NEXT_PLUGIN_SKIP"})
_FLAGS = ("NPM_FLAGS", "YARN_FLAGS", "PNPM_FLAGS", "BUN_FLAGS")

_LEFT = {
    "plugins": "isn't carried over: builds have no plugins here; if it makes files, run it in the build command",
    "functions": "aren't carried over: the platform serves static sites, and runs no functions",
    "edge_functions": "aren't carried over: the platform serves static sites, and runs no functions",
    "ignore": "isn't carried over: set `watch`, the paths whose changes are built",
    "images": "isn't carried over: images are served as they are",
}

#: Tables that say nothing of how a project is built.
_NO_MATTER = frozenset({"dev", "template", "graph"})


def read_netlify(data: bytes, into: Imported) -> None:
    """Read a ``netlify.toml``. Raises `Unreadable`."""
    document = read_toml(data)
    for key, value in document.values.items():
        line = document.line(key)
        if key == "build":
            _build(document, value, into)
        elif key == "context":
            _contexts(document, value, into)
        elif key == "redirects":
            _redirects(document, value, into)
        elif key == "headers":
            for number, table in enumerate(value if isinstance(value, list) else []):
                netlify_headers(table if isinstance(table, dict) else {}, FILE, document.heading(key, number), into)
        elif key in ("plugins", "edge_functions"):
            for number, entry in enumerate(value if isinstance(value, list) else [value]):
                named = _text(entry, "package") or _text(entry, "function")
                into.leave(
                    FILE, document.line(key, nth=number), f"{key} {quoted(named)} {_LEFT[key]}".replace("  ", " ")
                )
        elif key not in _NO_MATTER:
            into.leave(FILE, line, f"{quoted(key)} {_LEFT.get(key, 'is nothing that is known here')}")


def _build(document: Document, build: Any, into: Imported) -> None:
    start = document.line("build")
    for key, value in build.items() if isinstance(build, dict) else ():
        line = document.line(key, start)
        if key == "environment" and isinstance(value, dict):
            above = document.line("build.environment") or start
            for name, content in value.items():
                _variable(name, str(content), document.line(name, above) or line, into)
        elif key in ("base", "publish", "command") and isinstance(value, str):
            _how(key, value, line, into)
        elif key == "processing":
            into.leave(FILE, document.line("build.processing") or line, "files are served as they are built")
        else:
            into.leave(FILE, line, f"{quoted(key)} {_LEFT.get(key, 'is nothing that is known here')}")


def _how(key: str, value: str, line: int, into: Imported) -> None:
    if key == "command":
        _command(value, line, into)
    elif key == "publish":
        into.set("output", value.strip("/") or ".", FILE, line)
    elif value.strip("/."):
        into.set("root", value.strip("/"), FILE, line)


def _command(command: str, line: int, into: Imported) -> None:
    """Packages are installed before it, there as here."""
    parts = [part.strip() for part in command.split("&&")]
    kept = [part for part in parts if part and kind_of(part) != "needless"]
    if kept:
        into.set("build", " && ".join(kept), FILE, line)


def _variable(name: str, value: str, line: int, into: Imported) -> None:
    if name == "NODE_VERSION":
        into.set("node", value.removeprefix("v"), FILE, line)
    elif name in _MANAGERS:
        into.set("manager", f"{_MANAGERS[name]}@{value.removeprefix('v')}", FILE, line)
    elif name in _FLAGS:
        instead = (
            "put legacy-peer-deps=true into .npmrc"
            if "legacy-peer-deps" in value
            else "set `install` to the whole command"
        )
        into.leave(FILE, line, f"{name} = {quoted(value)} isn't carried over: {instead}")
    elif name.endswith("_VERSION"):
        into.leave(
            FILE, line, f"{quoted(name)} isn't carried over: the builder's machine has the program in its version"
        )
    elif name not in _NEEDLESS:
        into.set_variable(name, value, FILE, line)


def _contexts(document: Document, contexts: Any, into: Imported) -> None:
    """Settings of some builds only."""
    for name, context in contexts.items() if isinstance(contexts, dict) else ():
        for key, value in context.items() if isinstance(context, dict) else ():
            line = document.line(f"context.{name}.{key}") or document.line(key, document.line(f"context.{name}"))
            if key == "environment" and isinstance(value, dict):
                builds = {"production": "production", "deploy-preview": "previews"}.get(name, "some")
                for variable in value:
                    at = document.line(variable, line) or line
                    into.leave(
                        FILE,
                        at,
                        f"{quoted(variable)}, for {builds} builds alone, isn't carried over: a project's variables can "
                        "be for production or previews (project env set)",
                    )
            else:
                into.leave(
                    FILE,
                    line,
                    f"{quoted(key)} of the context {quoted(name)} isn't carried over: all builds run the same",
                )


def _redirects(document: Document, rules: Any, into: Imported) -> None:
    for number, rule in enumerate(rules if isinstance(rules, list) else []):
        line = document.heading("redirects", number)
        source, target = _text(rule, "from"), _text(rule, "to")
        plain = isinstance(rule, dict) and not rule.keys() & {"conditions", "country", "query"}
        if plain and is_fallback(source, target, rule.get("status", 301)):
            into.set("spa", True, FILE, line)
        else:
            netlify_redirect(rule if isinstance(rule, dict) else {}, FILE, line, into)


def _text(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else value
    return found if isinstance(found, str) else ""
