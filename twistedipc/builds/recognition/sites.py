"""What a framework's build makes, as its configuration says: a site or a server, and where."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from twistedipc.builds.recognition import angular
from twistedipc.builds.recognition.frameworks import Framework, Server
from twistedipc.builds.recognition.reading import PackageJson, Text, in_folder, read, read_script, read_text
from twistedipc.builds.recognition.recognised import Finding
from twistedipc.builds.recognition.tree import Tree

_PROGRAMS = ("js", "mjs", "cjs", "ts", "mts", "cts")


class MakesServer(msgspec.Struct, frozen=True, kw_only=True):
    """A build makes a server, and no site."""

    sentence: str  # that says why, and what would make a site
    certain: bool
    where: Finding | None


def read_config(tree: Tree, root: str, framework: Framework, has: Callable[[str], bool]) -> Text | None:
    """Return the framework's configuration, without comments; None if there is none that can be read."""
    for name in framework.config:
        if has(name):
            path = in_folder(root, name)
            is_program = name.rpartition(".")[2] in _PROGRAMS
            found = read_script(tree, path) if is_program else read_text(tree, path)
            if found is not None:
                return found
    return None


def server_of(framework: Framework, config: Text | None, script: str, has: Callable[[str], bool]) -> MakesServer | None:
    """
    Return that the framework's build makes a server; None if it makes a site.

    :param script: all commands of the script that builds
    :param has: whether there is such a file or folder in the project
    """
    server = framework.server
    if server is None or _says_static(server, config, script) or any(has(file) for file in server.unless_files):
        return None
    shown = config.find(server.when) if config is not None and server.when else None
    if server.when and shown is None:
        return None
    reason, where = "it has no configuration that says otherwise", None
    if config is not None:
        line = config.line(shown) if shown is not None else 0
        reason = f"{config.path}:{line} says so" if line else f"{config.path} says nothing else"
        why = f"{framework.title} makes a server of this"
        where = Finding(what="kind", value="server", why=why, file=config.path, line=line)
    sentence = f"{framework.title} makes a server of this ({reason}), and no site. For a static site {server.advice}"
    certain = _is_certain(server, config) and re.search("[&|;]", script) is None
    return MakesServer(sentence=sentence, certain=certain, where=where)


def _says_static(server: Server, config: Text | None, script: str) -> bool:
    text = config.text if config is not None else ""
    return bool(server.unless) and re.search(server.unless, f"{text}\n{script}") is not None


def _is_certain(server: Server, config: Text | None) -> bool:
    """Whether a framework's build makes a server, for all that can be known before."""
    if config is None:
        return server.without_config
    if server.doubtful and config.find(server.doubtful) is not None:
        return False
    return config.find(server.certain) is not None if server.certain else bool(server.doubtful)


def outputs_of(
    tree: Tree, root: str, framework: Framework, config: Text | None, package: PackageJson | None, script: str
) -> list[Finding]:
    """
    Return where the framework's site may be, relative to the root: as its command says, its configuration, its habit.

    :param script: the name of the script that builds; "": none does
    """
    found: list[Finding] = []
    commands = _commands(package, script)
    given = re.search(framework.option, commands) if framework.option else None
    if given is not None and package is not None:
        line = package.line("scripts", script)
        found.append(Finding(what="output", value=given[1], why="its command", file=package.path, line=line))
    if framework.name == "angular":
        path = in_folder(root, "angular.json")
        found += angular.outputs(read(tree, path) or b"", path)
    said = config.find(framework.key) if config is not None and framework.key else None
    if config is not None and said is not None:
        value = next(each for each in said.groups() if each is not None)
        line = config.line(said)
        found.append(Finding(what="output", value=value, why="its configuration", file=config.path, line=line))
    command = re.search(framework.runs, commands) if framework.runs else None
    folder = (command.groupdict().get("dir") if command is not None else None) or "."
    why = f"{framework.title} writes it"
    return found + [Finding(what="output", value=each.format(dir=folder), why=why) for each in framework.outputs]


def _commands(package: PackageJson | None, script: str) -> str:
    return package.commands(script) if package is not None and script else ""
