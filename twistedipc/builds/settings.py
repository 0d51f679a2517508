"""
What a project says of how it is built, where that isn't to be recognised from its files. Bottom layer, pure.

The API, the ledger and the link carry it. ``[build]`` in ``.twistedipc.toml`` has the same keys, and wins.
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from twistedipc.builds import host_rules, names
from twistedipc.builds.egress import EgressMode, NetworkMode, narrower
from twistedipc.builds.names import BadValue
from twistedipc.builds.site.rules import TrailingSlash

#: The file in a repository that says how it is built.
PLAN_FILE = ".twistedipc.toml"

#: The package managers that a project can ask for.
MANAGERS = ("npm", "pnpm", "yarn", "bun")

#: The most characters of a path or a command, and the most entries of a list.
MAX_PATH = 1024
MAX_COMMAND = 32 * 1024
MAX_PATTERNS = 100
MAX_CACHES = 20
MAX_HOSTS = 100

#: The rules for the whole of a value. Versions and ranges are as npm writes them, without ":" and "@", so that none is
#: an address or another package.
_VERSIONS = r"[0-9A-Za-z.^~<>=*|+/ -]{1,100}"
_FRAMEWORK = re.compile(r"(?:[a-z0-9][a-z0-9.-]{0,39})?")
_NODE = re.compile(rf"(?:{_VERSIONS})?")
_MANAGER = re.compile(rf"(?:(?:{'|'.join(MANAGERS)})(?:@{_VERSIONS})?)?")
_PATH = re.compile(rf"(?!/)(?!(?:[\s\S]*/)?\.\.(?:/|$))(?!(?:\./+)*\.git(?:/|$)){names.IN_PATH}*")


class BuildSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a project is built. What has its default is recognised from the project's files."""

    root: str = ""  # the folder of the project in its repository; "": the repository's top
    framework: str = ""  # a name of `recognition.frameworks`
    manager: str = ""  # "pnpm", or with a version or a range: "pnpm@9"
    node: str = ""  # a version of Node, or a range
    install: str | None = None  # the command that installs; "": none is run
    build: str | None = None  # the command that builds; "": none is run
    output: str = ""  # the folder that is packed, relative to the root
    spa: bool | None = None  # whether addresses without a file get index.html
    trailing_slash: TrailingSlash | None = None  # of pages' addresses; None: as their files are
    clean_urls: bool | None = None  # whether /about.html is sent to /about; False: /about isn't served
    watch: list[str] = []  # patterns of paths: a push that touches none of them builds nothing
    packages: list[str] = []  # patterns of folders whose packages are published
    submodules: bool = True
    lfs: bool = True  # whether large files are fetched
    annotate: bool = True  # whether what tools print (`::error …`, errors of compilers) becomes groups and annotations
    caches: list[str] = []  # folders that are kept from one build to the next, relative to the root
    network: NetworkMode = "open"  # what its steps may reach; files of the repository can only ask for less
    hosts: list[str] = []  # that it may reach beside its repository and its registries (`host_rules`)
    egress: EgressMode = "record"


def checked(settings: BuildSettings) -> BuildSettings:
    """
    Return the settings with their paths written in one way. Raises `BadValue`, whose sentence begins with the key of
    the setting that breaks a rule.
    """
    if not _FRAMEWORK.fullmatch(settings.framework):
        raise BadValue("framework: a framework's name has 1 to 40 of a-z, 0-9, . and -")
    if not _MANAGER.fullmatch(settings.manager):
        raise BadValue(
            f"manager: it is one of {', '.join(MANAGERS)}, which a version or a range may follow, for example pnpm@9"
        )
    if not _NODE.fullmatch(settings.node):
        raise BadValue('node: it is a version or a range as npm has them, for example "22", "^20.11.0" or "lts/iron"')
    if settings.trailing_slash not in (None, "auto", "always", "never"):
        raise BadValue("trailing_slash: it is auto, always or never")
    for key, command in (("install", settings.install), ("build", settings.build)):
        if command is not None and (len(command) > MAX_COMMAND or "\0" in command):
            raise BadValue(f"{key}: a command has at most {MAX_COMMAND} characters, and no NUL")
    for key, patterns, most in (
        ("watch", settings.watch, MAX_PATTERNS),
        ("packages", settings.packages, MAX_PATTERNS),
        ("caches", settings.caches, MAX_CACHES),
        ("hosts", settings.hosts, MAX_HOSTS),
    ):
        if len(patterns) > most:
            raise BadValue(f"{key}: there can be at most {most}")
    root = folder("root", settings.root)
    return replace(
        settings,
        root="" if root == "." else root,
        output=folder("output", settings.output),
        watch=[_pattern("watch", pattern) for pattern in settings.watch],
        packages=[_pattern("packages", pattern) for pattern in settings.packages],
        caches=[_cache(path) for path in settings.caches],
        hosts=[_host(text) for text in settings.hosts],
    )


def folder(key: str, path: str) -> str:
    """
    Return a folder's path without what says nothing in it: "./apps//web/" is "apps/web", and "." is the folder that it
    is relative to. Raises `BadValue`, which names the ``key``, if it may lead out of that folder, or into git's own.
    """
    if not path:
        return ""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\\" in path:
        raise BadValue(f"{key}: it must be a folder inside the repository, written with / and without ..")
    if not _PATH.fullmatch(path) or len(path) > MAX_PATH:
        raise BadValue(f"{key}: it must be a folder inside the repository, of at most {MAX_PATH} printable characters")
    return "/".join(parts) or "."


def _pattern(key: str, pattern: str) -> str:
    without = pattern.removeprefix("!")
    if not without:
        raise BadValue(f"{key}: a pattern is empty")
    return pattern[: len(pattern) - len(without)] + folder(key, without)


def narrowed(settings: BuildSettings, said: BuildSettings) -> BuildSettings:
    """
    Return settings that don't allow a build more of the network than ``said``. Raises `BadValue`, whose sentence begins
    with the key, if they would.
    """
    if settings.network != narrower(settings.network, said.network):
        raise BadValue(f'network: the project has network = "{said.network}", and a repository can only ask for less')
    if settings.hosts != said.hosts:
        raise BadValue("hosts: which hosts its builds may reach is said by the project alone, not by its repository")
    return replace(settings, egress="ask") if said.egress == "ask" else settings


def _host(text: str) -> str:
    try:
        return str(host_rules.rule(text))
    except host_rules.BadRule as error:
        raise BadValue(f"hosts: {error}") from error


def _cache(path: str) -> str:
    cleaned = folder("caches", path)
    if cleaned in ("", "."):
        raise BadValue("caches: the whole project can't be kept from one build to the next, only folders in it")
    return cleaned
