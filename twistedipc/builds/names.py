"""
The rules for what comes from outside: names, refs, repository addresses, environment variables. Bottom layer.

Each function returns the value it was given or raises `BadValue` with a sentence for the person who gave it. The
apiserver asks when a request comes in and the builder asks again when an offer does, since either may be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit


class BadValue(ValueError):
    """A value from outside breaks a rule. ``str()`` of it is a sentence for its author."""


_PROJECT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_REF = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/@+-]{0,254}\Z")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,17}-[1-9][0-9]{0,8}\Z")
_LEASE = re.compile(r"[0-9a-f]{16,64}\Z")
_NODE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_SCP_LIKE = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*:(?![/\\:])[A-Za-z0-9_.~/+-]+\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])\Z")

MAX_VALUE = 32 * 1024
_NO_LOCAL = "repositories in local folders are not allowed here (see local_repositories in the configuration)"


def project(name: str) -> str:
    """A project's name: what may be one label of a host name, since its release is served under it."""
    if not _PROJECT.match(name):
        raise BadValue("a project's name has 1 to 63 of a-z, 0-9 and -, and neither begins nor ends with -")
    return name


def node(name: str) -> str:
    """A builder's or apiserver's name."""
    if not _NODE.match(name):
        raise BadValue(
            "a node's name has 1 to 64 letters, digits and . _ -, and begins and ends with a letter or digit"
        )
    return name


def attempt(name: str) -> str:
    """An attempt's name, "BUILD-N"."""
    if not _ATTEMPT.match(name):
        raise BadValue("an attempt's name is BUILD-N")
    return name


def lease(value: str) -> str:
    """A lease: hexadecimal digits."""
    if not _LEASE.match(value):
        raise BadValue("a lease has 16 to 64 hexadecimal digits")
    return value


def ref(name: str) -> str:
    """A branch, a tag or a commit id, as git's check-ref-format has it and never an option."""
    if (
        not _REF.match(name)
        or ".." in name
        or "//" in name
        or "/." in name
        or "@{" in name
        or name.endswith(("/", ".", ".lock"))
        or ".lock/" in name
    ):
        raise BadValue(
            "a ref is a branch, tag or commit id: letters, digits and . _ / @ + -, with a letter or digit first"
        )
    return name


def repository(address: str, *, local: bool = False) -> str:
    """
    The address of a git repository: https, http, ssh or git, or ``user@host:path``; with ``local`` (an operator's
    setting) also ``file:///…`` and an absolute path. No options, no ``ext::``, no credentials in it.
    """
    if len(address) > 1024 or not address.isprintable() or " " in address or "\\" in address:
        raise BadValue("a repository's address is one line of at most 1024 characters without spaces")
    if address.startswith("-"):
        raise BadValue("a repository's address can't begin with -")
    if _SCP_LIKE.match(address):
        return address
    if address.startswith("/"):
        if not local:
            raise BadValue(_NO_LOCAL)
        return address
    parts = urlsplit(address)
    if parts.scheme == "file":
        if not local:
            raise BadValue(_NO_LOCAL)
        if parts.netloc or not parts.path.startswith("/"):
            raise BadValue("a local repository's address is file:///PATH")
        return address
    if parts.scheme not in ("https", "http", "ssh", "git"):
        raise BadValue("a repository's address begins with https://, http://, ssh:// or git://, or is user@host:path")
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise BadValue("a repository's address can't hold credentials")
    if parts.username is not None and not _VARIABLE.match(parts.username.replace("-", "_").replace(".", "_")):
        raise BadValue("a repository's user name is not one")
    try:
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise BadValue("a repository's address has a port that isn't a number") from error
    if host is None or not _HOST.match(host if ":" not in host else f"[{host}]"):
        raise BadValue("a repository's address needs a host")
    if parts.path in ("", "/"):
        raise BadValue("a repository's address needs a path")
    return address


# Variables that make programs run something else, or that the platform itself sets.
_FORBIDDEN = frozenset(
    """
    PATH HOME TMPDIR SHELL IFS ENV BASH_ENV SHELLOPTS BASHOPTS PS4 PROMPT_COMMAND CDPATH GLOBIGNORE EDITOR VISUAL PAGER
    NODE_OPTIONS NODE_PATH NODE_REPL_EXTERNAL_MODULE NODE_CHANNEL_FD NODE_CHANNEL_SERIALIZATION_MODE NODE_UNIQUE_ID
    NODE_AUTH_TOKEN NPM_TOKEN PERL5LIB PERL5OPT PERLLIB RUBYOPT RUBYLIB JAVA_TOOL_OPTIONS _JAVA_OPTIONS
    JDK_JAVA_OPTIONS GCONV_PATH HOSTALIASES LOCALDOMAIN RES_OPTIONS LOCPATH MALLOC_TRACE NLSPATH RESOLV_HOST_CONF
    TERMCAP TERMINFO
    """.split()
)
_FORBIDDEN_PREFIXES = tuple(
    "LD_ DYLD_ GIT_ SSH_ NPM_CONFIG_ PYTHON BASH_FUNC_ TWISTEDIPC_ YARN_ PNPM_ COREPACK_".split()
)


def environment(values: Mapping[str, str]) -> Mapping[str, str]:
    """
    Environment variables that a project or a request may set: not those by which a program is made to run
    something else. (An operator's own values, in the builder's configuration, aren't held to this.)
    """
    if len(values) > 256:
        raise BadValue("there can be at most 256 variables")
    for name, value in values.items():
        if not _VARIABLE.match(name):
            raise BadValue(f"{name[:64]!r} can't be the name of an environment variable")
        upper = name.upper()
        if upper in _FORBIDDEN or upper.startswith(_FORBIDDEN_PREFIXES):
            raise BadValue(f"{name} can't be set: it changes how programs are run")
        if "\0" in value or len(value) > MAX_VALUE:
            raise BadValue(f"the value of {name} has a NUL, or more than {MAX_VALUE} characters")
    return values
