"""
The rules for values that come from outside: names, refs, addresses. Bottom layer.

Each function returns its value, or raises `BadValue` with a sentence for the person who entered the value. The
apiserver checks each request, and the builder checks each offer again: neither relies on the other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit, urlunsplit


class BadValue(ValueError):
    """A value from outside breaks a rule; ``str()`` of the exception is a sentence for the person who entered it."""


# Names that are shown to people have no characters that are invisible, blank (except spaces) or reorder letters.
_HIDDEN = (
    r"\x00-\x1f\x7f-\xa0\xad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
_CHARACTER = rf"[^{_HIDDEN} \\]"  # of an address
IN_PATH = rf"[^{_HIDDEN}\\]"  # a character of a path in a repository, which has / between its parts
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_PORT = r"(?::(?:[0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])?)?"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}@"
# Not a folder of Windows (C:/src), and no URL that lacks a slash (https:/host/path).
_NO_HOST = r"(?:(?:[A-Za-z]|https?|ssh|git|ext|ftp):/|file:)"
_SCP_PATH = rf"(?!//|-)(?:[A-Za-z0-9_.~/+%@-]|[^\x00-\x7f{_HIDDEN}])+"
_SCP_LIKE = rf"(?!{_NO_HOST})(?:{_USER})?[A-Za-z0-9][A-Za-z0-9.-]*:{_SCP_PATH}"
# A user's name before an https host, as hosts' "Clone" buttons give it: not what looks like a token.
_TOKEN = r"(?:gh[a-z]_|github_pat_|gl[a-z]{2,8}-|ATATT|ATCTT|x-oauth-basic)"
_WEB_USER = rf"(?!{_TOKEN})[A-Za-z0-9_](?:[A-Za-z0-9_.+~-]|%[0-9A-Fa-f]{{2}}){{0,38}}@"
_URL = rf"(?:https?://(?:{_WEB_USER})?|git://|ssh://(?:{_USER})?){_HOST}{_PORT}/[^{_HIDDEN} \\?#]+"
_LOCAL = rf"(?:file://)?/{_CHARACTER}*"

#: The rules as regular expressions for the whole of a value, which JSON Schema (ECMA-262) and Python read alike: the
#: API's document shows them. Those of a new project, a ref,
#: an address and a registry leave out their greatest length.
PROJECT = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
NEW_PROJECT = r"[a-z0-9](?:-?[a-z0-9])*"
ATTEMPT = r"[1-9][0-9]{0,17}-[1-9][0-9]{0,8}"
LEASE = r"[0-9a-f]{16,64}"
REF = r"(?![-./]|@$|[\s\S]*(?:\.\.|//|/\.|@\{|\.lock/|\.lock$|[/.]$))[^\x00-\x20\x7f~^:?*\[\\]+"
ADDRESS = rf"(?:{_SCP_LIKE}|{_URL}|{_LOCAL})"
WEB_HOST = rf"https?://[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?{_PORT}"  # by a name, or an IPv4 address
REGISTRY = rf"(?:https?://{_HOST}{_PORT}(?:/[!-\"$->@-\[\]-~]*)?)?"
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,127}"  # that it doesn't change how programs run is a rule beside it
SECRET_NAME = rf"{VARIABLE}(?:@[a-z0-9~-][a-z0-9._~-]{{0,99}})?"  # of builds, or of a target: one may be of a scope
LINE = rf"[^{_HIDDEN}]+"
_SCOPE = r"@[a-z0-9~][a-z0-9._~-]*/"
_PACKAGE = r"[A-Za-z0-9~][A-Za-z0-9._~-]*"  # no name begins with "-": npm would take it for an option
PACKAGE = rf"(?:{_SCOPE})?{_PACKAGE}"
PACKAGES = rf"{_SCOPE}\*|{PACKAGE}"  # one, or all of a scope
SECRET = r"[!-~]+"

#: The greatest lengths, in characters: of a ref, of an address, and of a variable's value.
MAX_REF = 1024
MAX_ADDRESS = 1024
MAX_VALUE = 32 * 1024

#: The most characters of a package's name, which is npm's rule, and the most entries of what a project may publish.
MAX_PACKAGE = 214
MAX_PACKAGES = 100

#: How many characters the password of a project's previews has.
MIN_PASSWORD = 8
MAX_PASSWORD = 200

#: An address for mail: what a commit can have as its author's, and what who signs people in may say.
EMAIL = r"[^\s@<>\x00-\x1f\x7f-\x9f]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?"
MAX_EMAIL = 254

NODE = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?"

_NO_LOCAL = "repositories in local folders are not allowed here (see local_repositories in the configuration)"


def project(name: str) -> str:
    """Check a project's name: it must be a valid label of a host name, under which the release is served."""
    if not re.fullmatch(PROJECT, name):
        raise BadValue("a project's name has 1 to 63 of a-z, 0-9 and -, and neither begins nor ends with -")
    return name


def new_project(name: str) -> str:
    """
    Check the name of a project that is to be made. Two hyphens in it would make it the host name of a preview of
    another project (`builds.labels`), or of a name in another script (``xn--``). Older projects may have such names.
    """
    if not re.fullmatch(NEW_PROJECT, project(name)):
        raise BadValue(
            f"a project's name has no -- in it: {name}.example.org could be a preview's address, LABEL--PROJECT. "
            f"Call it {re.sub('-+', '-', name)}, for example"
        )
    return name


def pool(name: str) -> str:
    """Check the name of a pool of builders."""
    if not re.fullmatch(PROJECT, name):
        raise BadValue("a pool's name has 1 to 63 of a-z, 0-9 and -, and begins and ends with a letter or digit")
    return name


def node(name: str) -> str:
    """Check a builder's or apiserver's name."""
    if not re.fullmatch(NODE, name):
        raise BadValue(
            "a node's name has 1 to 64 letters, digits and . _ -, and begins and ends with a letter or digit"
        )
    return name


def attempt(name: str) -> str:
    """Check an attempt's name, "BUILD-N"."""
    if not re.fullmatch(ATTEMPT, name):
        raise BadValue("an attempt's name is BUILD-N")
    return name


def lease(value: str) -> str:
    """Check a lease: hexadecimal digits."""
    if not re.fullmatch(LEASE, value):
        raise BadValue("a lease has 16 to 64 hexadecimal digits")
    return value


def ref(name: str) -> str:
    """Check a branch, tag, full name (``refs/…``) or commit id: as git's check-ref-format does, and no option."""
    if len(name) > MAX_REF or not re.fullmatch(REF, name):
        raise BadValue(
            f"a ref is a branch, a tag, refs/… or a commit id, as git has them: at most {MAX_REF} characters, "
            "none of them a space, a control character or one of ~ ^ : ? * [ \\; no - first, no .. or @{ in it, and "
            "no part of it empty, with a . first or .lock at the end"
        )
    return name


def spellings(name: str) -> frozenset[str]:
    """
    All ways to write a ref down that mean the same: ``main``, ``heads/main``, ``refs/heads/main``. A name alone is a
    branch's, as it is for the checkout, which looks for a tag of this name only if there is no such branch.
    """
    for kind in ("heads", "tags"):
        for prefix in (f"refs/{kind}/", f"{kind}/"):
            if name.startswith(prefix):
                return _spellings(kind, name.removeprefix(prefix))
    return _spellings("heads", name)


def full_ref(name: str) -> str:
    """Return a ref's full name, ``refs/heads/main``: a name alone is taken for a branch's, as in `spellings`."""
    if name.startswith("refs/"):
        return name
    return f"refs/{name}" if name.startswith(("heads/", "tags/")) else f"refs/heads/{name}"


def pull_request_of(ref: str) -> int | None:
    """Return the number of the pull request whose commit a ref has at the hosts that we know; None: it is another."""
    found = re.fullmatch(r"refs/(?:pull|merge-requests|pull-requests)/([1-9][0-9]{0,17})/(?:head|merge|from)", ref)
    return None if found is None else int(found[1])


#: The ref that stands for the repository's own default branch, whichever that is.
HEAD = "HEAD"


def own_refs(default_ref: str, head: str) -> frozenset[str]:
    """
    Return how a project's own ref may be written.

    :param head: the branch that the repository's HEAD stands for, as far as it is known; "": it isn't
    """
    if default_ref != HEAD:
        return spellings(default_ref)
    return spellings(f"refs/heads/{head}") | {HEAD} if head else frozenset({HEAD})


def own_ref(default_ref: str, head: str) -> str:
    """Return a project's own ref as people read it."""
    return f"{HEAD} (which is {head})" if default_ref == HEAD and head else default_ref


def _spellings(kind: str, short: str) -> frozenset[str]:
    full = {f"{kind}/{short}", f"refs/{kind}/{short}"}
    alone = kind == "heads" and not short.startswith(("heads/", "tags/", "refs/"))
    return frozenset(full | {short} if alone else full)


def repository(address: str, *, local: bool = False) -> str:
    """
    The address of a git repository: https, http, ssh or git, or ``user@host:path``; with ``local`` (an operator's
    setting) also ``file:///…`` and an absolute path. No options, no ``ext::``, no password, no query in it.
    """
    if len(address) > MAX_ADDRESS or not re.fullmatch(rf"{_CHARACTER}+", address):
        raise BadValue("a repository's address is one line of at most 1024 characters without spaces")
    if address.startswith(("/", "file://")) and not local:
        raise BadValue(_NO_LOCAL)
    if not re.fullmatch(ADDRESS, address):
        raise BadValue(_wrong_with(address))
    return address


def _wrong_with(address: str) -> str:
    """Return why this isn't the address of a repository."""
    if address.startswith("-"):
        return "a repository's address can't begin with -"
    scheme, found, rest = address.partition("://")
    if found and scheme == "file":
        return "a local repository's address is file:///PATH"
    if not found or scheme not in ("https", "http", "ssh", "git"):
        return "a repository's address begins with https://, http://, ssh:// or git://, or is user@host:path"
    place, _, path = rest.partition("/")
    user, at, _host = place.rpartition("@")
    if at and scheme == "git":
        return "a repository's address can't hold credentials: nothing is sent by git://"
    if at and (scheme != "ssh" or ":" in user):
        return (
            "a repository's address can't hold a password or a token, which would be shown to all who see the project: "
            "leave it out, and give a token by `twistedipc project secret NAME git_token`"
        )
    if "?" in rest or "#" in rest:
        return (
            "a repository's address can't have a query or fragment (? or #): git doesn't use them, and a token there "
            "would be shown to all who see the project"
        )
    if not path:
        return "a repository's address needs a path"
    return "a repository's address needs a host (before it, with ssh, a user's name; after it a port, if any)"


_PORTS = {"http": 80, "https": 443, "ssh": 22, "git": 9418}


def place(address: str) -> str:
    """
    The address of a repository or registry, so that two are equal exactly if the same place is meant: scheme and host
    in small letters, without a port that goes without saying, without slashes at the end.
    """
    parts = urlsplit(address)
    if not parts.netloc:
        return address.rstrip("/")
    user, at, host = parts.netloc.rpartition("@")
    name, _, port = host.rpartition(":") if re.search(r":[0-9]*\Z", host) else (host, "", "")
    if port == str(_PORTS.get(parts.scheme)):
        port = ""
    place = f"{user}{at}{name.lower().removesuffix('.')}" + (f":{port}" if port else "")
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), parts.query, parts.fragment))


def host(address: str) -> str:
    """
    Return the host of a repository's address, to which credentials are bound: ``https://example.org``,
    ``ssh://example.org:2222``. Two are equal exactly if the same is meant. Of a local repository it is "".
    """
    if address.startswith(("/", "file:")):
        return ""
    if "://" not in address:  # user@host:path
        return f"ssh://{address.partition(':')[0].rpartition('@')[2].lower()}"
    parts = urlsplit(place(address))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def user(address: str) -> str:
    """Return the user in a repository's address; "" if there is none."""
    if "://" not in address:
        return address.partition(":")[0].rpartition("@")[0]
    return unquote(urlsplit(address).netloc.rpartition("@")[0])


def open_road(address: str) -> bool:
    """Return whether what is sent to this address can be read in transit: by http, and not to this machine."""
    return urlsplit(address).scheme == "http" and not is_here(address)


def is_here(address: str) -> bool:
    """Return whether an address is one that each machine has for itself."""
    host = (urlsplit(address).hostname or "").removesuffix(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def registry(address: str) -> str:
    """Check the address of an npm registry, to which a token will be sent; "" is the one that npm is set up for."""
    if len(address) > MAX_ADDRESS or not re.fullmatch(REGISTRY, address):
        raise BadValue(
            "a registry's address begins with https:// or http:// and a host; it is printable ASCII of at most 1024 "
            "characters, and can't hold spaces, credentials, a query or a fragment"
        )
    return address


def is_package(name: str) -> bool:
    """Return whether npm accepts this as the name of a package."""
    return len(name) <= MAX_PACKAGE and re.fullmatch(PACKAGE, name) is not None


def packages(patterns: Sequence[str]) -> Sequence[str]:
    """Check the packages that a project may publish: names, or ``@SCOPE/*``. None: the first that it publishes."""
    if len(patterns) > MAX_PACKAGES:
        raise BadValue(f"a project can have at most {MAX_PACKAGES} entries of packages")
    for pattern in patterns:
        if len(pattern) > MAX_PACKAGE or not re.fullmatch(PACKAGES, pattern):
            raise BadValue(f"{pattern[:100]!r} is neither the name of an npm package nor a scope like @acme/*")
    return patterns


def secret(value: str) -> str:
    """Check a token for another service, before it is stored encrypted."""
    if not re.fullmatch(SECRET, value):
        raise BadValue("a secret is printable ASCII without spaces")
    return value


#: What in a text moves the cursor, ends the line, or reorders what is around it.
_UNSHOWN = (
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_UNSHOWN_IN_LINES = _UNSHOWN.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f")


def shown(text: str, limit: int, *, lines: bool = False) -> str:
    """
    Return a stranger's text as people are shown it: of at most ``limit`` characters, with a replacement character in
    the place of each that isn't to be seen and does something. With ``lines``, it may have tabs and several lines.
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return re.sub(_UNSHOWN_IN_LINES if lines else _UNSHOWN, "\N{REPLACEMENT CHARACTER}", cut)


def line(text: str) -> str:
    """Check a name that people read."""
    if not re.fullmatch(LINE, text):
        raise BadValue("a name is one line of visible characters and spaces")
    return text


def is_email(address: str) -> bool:
    """Return whether this can be an address for mail."""
    return len(address) <= MAX_EMAIL and re.fullmatch(EMAIL, address) is not None


def email(address: str) -> str:
    """Check an address for mail."""
    if not is_email(address):
        raise BadValue(f"{address[:100]!r} isn't an address for mail, such as ada@example.org")
    return address
