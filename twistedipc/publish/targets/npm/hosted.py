"""
Addresses of repositories at the hosts of code that npm knows, written as npm writes them: the short "acme/ui" becomes a
whole address, for one. Pure; used by ``manifest``. The rules are those of npm's package ``hosted-git-info``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, unquote

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:)"
    r"(?://(?:(?P<auth>[^@/?#]*)@)?(?P<host>[^/?#:@]*)(?::[0-9]*)?(?=[/?#]|\Z))?"
    r"(?P<path>[^?#]*)(?:\?[^#]*)?(?:#(?P<hash>.*))?\Z",
    re.DOTALL,
)


@dataclass(frozen=True)
class _Host:
    """A host of repositories."""

    domain: str
    schemes: Collection[str]
    folder: str = "tree"  # of a branch's page
    plus: str = "git+"  # before https
    has_issues: bool = True
    is_gist: bool = False  # repositories belong to nobody in their addresses


_SECURE = ("git+ssh:", "git+https:", "ssh:", "https:")
_HOSTS = {
    "github": _Host("github.com", ("git:", "http:", *_SECURE)),
    "bitbucket": _Host("bitbucket.org", _SECURE, folder="src"),
    "gitlab": _Host("gitlab.com", _SECURE),
    "gist": _Host("gist.github.com", ("git:", *_SECURE), is_gist=True),
    "sourcehut": _Host("git.sr.ht", ("git+ssh:", "https:"), plus="", has_issues=False),
}
_BY_DOMAIN = {host.domain: name for name, host in _HOSTS.items()}

#: host -> what follows a repository in an address that is not the repository's own
_OTHER_PAGES = {"bitbucket": "get", "gist": "raw", "sourcehut": "archive"}
_TARBALL = "/archive.tar.gz"

_WITH_PASSWORD = ("git+https:", "git:", "http:", "https:", "git+http:")
_KNOWN_SCHEMES = frozenset(("git+ssh:", "ssh:", *_WITH_PASSWORD, *(f"{name}:" for name in _HOSTS)))


@dataclass(frozen=True, kw_only=True)
class Hosted:
    """A repository at one of the hosts."""

    kind: str
    user: str
    project: str
    committish: str
    auth: str
    form: str  # how the address was written: shortcut, ssh, https, git

    @property
    def _host(self) -> _Host:
        return _HOSTS[self.kind]

    @property
    def _place(self) -> str:
        return self.project if self._host.is_gist else f"{self.user}/{self.project}"

    @property
    def _hash(self) -> str:
        return f"#{self.committish}" if self.committish else ""

    @property
    def https(self) -> str:
        """The address by https."""
        host = self._host
        auth = f"{self.auth}@" if self.auth and host.plus and not host.is_gist else ""
        suffix = ".git" if host.plus else ""
        return f"{host.plus}https://{auth}{host.domain}/{self._place}{suffix}{self._hash}"

    @property
    def repository(self) -> str:
        """The address for ``repository.url``."""
        return self.https if self.form == "shortcut" else self.spec

    @property
    def spec(self) -> str:
        """The address for a dependency, in the form in which it was written."""
        match self.form:
            case "shortcut":
                return f"{self.kind}:{self._place}{self._hash}"
            case "https":
                return self.https
            case "git":
                auth = f"{self.auth}@" if self.auth and not self._host.is_gist else ""
                return f"git://{auth}{self._host.domain}/{self._place}.git{self._hash}"
        return f"git+ssh://git@{self._host.domain}/{self._place}.git{self._hash}"

    @property
    def docs(self) -> str:
        """The page of the repository."""
        at = quote(self.committish, safe="!~*'()")
        if self._host.is_gist:
            return f"https://{self._host.domain}/{self.project}" + (f"/{at}" if at else "")
        branch = f"/{self._host.folder}/{at}" if at else ""
        return f"https://{self._host.domain}/{self._place}{branch}#readme"

    @property
    def bugs(self) -> str:
        """The page of its issues; "" if there is none."""
        if not self._host.has_issues:
            return ""
        return f"https://{self._host.domain}/{self._place}" + ("" if self._host.is_gist else "/issues")


def hosted(address: object) -> Hosted | None:
    """Return the repository that an address, or a dependency's range, means; None if it is at none of the hosts."""
    if not isinstance(address, str) or not address:
        return None
    url = _parse(f"github:{address}" if _is_short(address) else address)
    if url is None:
        return None
    scheme, path = url["scheme"].lower(), url["path"]
    kind = scheme[:-1] if scheme[:-1] in _HOSTS else _BY_DOMAIN.get((url["host"] or "").lower().removeprefix("www."))
    if kind is None:
        return None
    if scheme[:-1] in _HOSTS:
        user, _, project = path.removeprefix("/").rpartition("@")[2].rpartition("/")
        return _found(kind, user or "null", project, url["hash"] or "", "", "shortcut")
    if scheme not in _HOSTS[kind].schemes:
        return None
    parts = _extract(kind, path, url["hash"] or "")
    form = {"git:": "git", "git+https:": "https", "https:": "https"}.get(scheme, "ssh")
    auth = (url["auth"] or "") if scheme in _WITH_PASSWORD else ""
    return _found(kind, *parts, auth, form) if parts is not None else None


def _found(kind: str, user: str, project: str, committish: str, auth: str, form: str) -> Hosted:
    return Hosted(
        kind=kind,
        user=unquote(user),
        project=unquote(project).removesuffix(".git"),
        committish=unquote(committish),
        auth=auth,
        form=form,
    )


def _is_short(text: str) -> bool:
    """Whether a text is "user/project", with a branch after "#" or not."""
    return re.fullmatch(r"[^\s/.@:][^\s/@:]*/[^\s/@:]+", text.partition("#")[0]) is not None


def _parse(text: str) -> re.Match[str] | None:
    """Parse an address, or one as ssh has them: "git@host:path"."""
    text = _with_slashes(text.strip())
    found = _valid(text)
    if found is not None:
        return found
    before, hash_, after = text.partition("#")
    if before.rfind(":") > before.rfind("@"):
        at = before.rfind(":")
        before = f"{before[:at]}/{before[at + 1 :]}"
    if ":" not in before and "//" not in before:
        before = f"git+ssh://{before}"
    return _valid(before + hash_ + after)


def _valid(text: str) -> re.Match[str] | None:
    match = _URL.match(text)
    if match is None or (match["host"] is None and match["path"].startswith("//")):
        return None
    if match["scheme"].lower() in ("http:", "https:") and not match["host"]:
        return None
    return match


def _with_slashes(text: str) -> str:
    colon = text.find(":")
    if text[: colon + 1] in _KNOWN_SCHEMES or text[colon : colon + 3] == "://":
        return text
    at = text.find("@")
    if at > -1:
        return f"git+ssh://{text}" if at > colon else text
    return f"{text[: colon + 1]}//{text[colon + 1 :]}"


def _extract(kind: str, path: str, hash_: str) -> tuple[str, str, str] | None:
    """Return user, project and branch of the path of an address; None if it is no repository's."""
    if re.search(r"/\.{1,2}(/|\Z)", path):
        path = posixpath.normpath(path)
    if kind == "gitlab":
        path = path.removeprefix("/")
        user, _, project = path.rpartition("/")
        found = (user, project, hash_)
        return found if user and project not in ("", ".git") and "/-/" not in path and _TARBALL not in path else None
    _, user, project, more, *rest = [*path.split("/"), "", "", "", ""]
    if more and more == _OTHER_PAGES.get(kind):
        return None
    if kind == "github" and more:
        if more != "tree":
            return None
        hash_ = rest[0]
    if kind == "gist" and not project:
        user, project = "", user
    return (user, project, hash_) if project not in ("", ".git") and (user or kind == "gist") else None
