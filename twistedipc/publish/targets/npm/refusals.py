"""
What a registry's refusals mean: a table, by which an answer of HTTP becomes an `Answer`. Pure; used by ``client``.

Registries use the same few statuses for different things: 403 is "you may not", "this version is there" or "a one-time
password, please". So the words count too. The first row that fits counts.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Flag, auto

import msgspec

from twistedipc.builds.names import shown
from twistedipc.publish.targets.npm.registry import Answer, Kind

#: The most characters of a registry's own words, and the most seconds of its Retry-After that are believed.
MAX_WORDS = 300
MAX_AFTER = 3600.0


class Act(Flag):
    """What a registry was asked to do."""

    LOOK = auto()
    FETCH = auto()
    UPLOAD = auto()
    LIST_STAGES = auto()
    VIEW_STAGE = auto()
    STAGE = auto()
    APPROVE = auto()
    REJECT = auto()
    TAG = auto()
    UNTAG = auto()
    DEPRECATE = auto()
    EXCHANGE = auto()  # an ID token for one of the registry's
    TOKENS = auto()  # list tokens
    SEARCH = auto()

    READS = LOOK | FETCH | LIST_STAGES | VIEW_STAGE | SEARCH
    SENDS = UPLOAD | STAGE
    ABOUT_STAGES = LIST_STAGES | VIEW_STAGE | STAGE | APPROVE | REJECT


_ALL = ~Act(0)

#: The headers in whose words a refusal may be told. (Others have words that mislead: every answer of GitHub's has some
#: that begin with "x-ratelimit".)
TELLING = ("www-authenticate", "npm-notice")


@dataclass(frozen=True)
class Row:
    """A refusal. ``words``: a pattern that is looked for in the body and in `TELLING`, without regard to case."""

    statuses: Sequence[int]
    kind: Kind
    said: str
    words: str = ""
    acts: Act = _ALL

    def fits(self, act: Act, status: int, text: str) -> bool:
        """Return whether a refusal is this one."""
        return (
            bool(self.acts & act)
            and status in self.statuses
            and (not self.words or re.search(self.words, text, re.IGNORECASE) is not None)
        )


#: The version is there: in the words of those registries that have a status for that which means other things too.
_THERE = (
    r"previously published|publish over|already (exists|published|present|contains|been (published|taken))"
    r"|existing version|is already|not allow updating|cannot be updated|redeploy is not allowed|delete/overwrite"
    r"|needs delete permission"
)
_OTP = r"one-time pass|npm-otp|two-factor|\b2fa\b|^www-authenticate:.*\botp\b|\botp\b.{0,40}(required|invalid|expired)"
_HIDDEN = r"do(es)? not have permission to access|is not in this registry"

#: With what a registry refuses an ID token.
_DENYING = (400, 401, 403, 404, 422)

_SERVER = tuple(range(500, 600))

# Where the rows come from is said before each: the document or the source in which a registry says so. "npm" is the
# public registry, as its client's issues quote it.
TABLE: Sequence[Row] = (
    # npm, docs "About two-factor authentication"; npm-registry-fetch, check-response.js; npm/cli#9268 (403).
    Row((401, 403), Kind.OTP, "the registry wants a one-time password", _OTP),
    # npm-registry-fetch, errors.js, HttpErrorAuthIPAddress.
    Row((401,), Kind.DENIED, "the registry doesn't let this machine's address in", r"^www-authenticate:.*ipaddress"),
    # npm, the notice with which it says 404 to a token that is no longer one (StefanMaron/AL-Dependency-MCP-Server#18).
    Row(
        (401, 403, 404),
        Kind.DENIED,
        "the project's token has expired, or was revoked",
        r"token (is )?(expired|revoked)",
    ),
    # What is wrong with an ID token, in the words of the libraries by which registries check them (PyJWT, jose, Spring
    # Security, go-oidc).
    Row(
        _DENYING,
        Kind.DENIED,
        "the registry can't read this apiserver's key, by which it would check its word: the issuer's documents must "
        "be reachable from the registry",
        r"jwks|openid-configuration|discovery|(signing|public) key|issuer.{0,40}reach|unable to (fetch|get)",
        Act.EXCHANGE,
    ),
    Row(
        _DENYING,
        Kind.DENIED,
        "the registry finds that this apiserver's word isn't good at this time: see the clocks of both",
        r"not yet valid|\bnbf\b|\biat\b|in the future|clock|expired|too (early|late)|used too",
        Act.EXCHANGE,
    ),
    Row(
        _DENYING,
        Kind.DENIED,
        "the registry gives no token for this apiserver's word, since it expects another audience",
        r"\baud(ience)?\b",
        Act.EXCHANGE,
    ),
    # npm, docs "Trusted publishing": it says 404 too ("OIDC token exchange error - package not found", npm/cli#8678)
    # where a package has no trusted publisher, or isn't there yet.
    Row(
        (404, 405, 501),
        Kind.DENIED,
        "the registry gives no token for this apiserver's word: see whom it trusts to publish the package, which must "
        "be there already in some registries",
        r"oidc|trust|token exchange",
        Act.EXCHANGE,
    ),
    Row(
        (404, 405, 501),
        Kind.DENIED,
        "the registry has no such exchange of ID tokens for one of its own: have the project publish with a token "
        "(--auth token)",
        acts=Act.EXCHANGE,
    ),
    Row(
        _DENYING,
        Kind.DENIED,
        "the registry gives no token for this apiserver's word: see whom it trusts to publish the package",
        acts=Act.EXCHANGE,
    ),
    # npm, changelog of 2026-07-31: tokens that bypass 2FA may not list tokens. Others have no such list.
    Row((400, 403, 404, 405, 501), Kind.UNSUPPORTED, "the registry doesn't say when tokens expire", acts=Act.TOKENS),
    # "GET /-/v1/search" of npm's registry (REGISTRY-API.md): not all others have it.
    Row((400, 404, 405, 501), Kind.UNSUPPORTED, "the registry can't be searched", acts=Act.SEARCH),
    Row((401, 407), Kind.DENIED, "the registry doesn't take the project's token"),
    # npm, "Payment Required": a scoped package is private if it doesn't say otherwise.
    Row(
        (402,),
        Kind.REFUSED,
        'the registry wants to be paid for private packages ("publishConfig": {"access": "public"} in package.json '
        "makes it a public one)",
    ),
    # npm/cli#9889: versions that are staged and those that are published are one set.
    Row(
        (403, 409),
        Kind.TAKEN,
        "a stage of this version waits in the registry: approve or reject that",
        r"previously staged",
        Act.SENDS,
    ),
    # npm: 403 "cannot publish over the previously published versions", 422 "Filename already exists" (npm/npm#20236).
    # GitHub: 409 "Cannot publish over existing version". GitLab, create_package_service.rb: 403 (later 400) "Package
    # already exists." Gitea, packages/npm/npm.go: 400 (later 409) "package version already exists". Verdaccio,
    # error-utils.ts: 409 "this package is already present". Nexus 3: 400 "Repository does not allow updating assets"
    # (Elendev/composer-push#72, 030/n3dr#68), in a page too (pypa/twine, tests/test_upload.py), and of late 400 or 409
    # "cannot be updated as asset already exists and redeploy is not allowed" (python-poetry/poetry#10602); Nexus 2: 400
    # "does not allow updating artifacts", the title of a page (npm/npm#13891). Artifactory: 403, as its article 5823
    # has it for npm, with "Not enough permissions to delete/overwrite artifact … needs DELETE permission" (in older
    # ones "to overwrite"; pypa/twine, tests/test_upload.py): a token that has that permission too replaces versions.
    Row((400, 403, 409, 422, 500), Kind.TAKEN, "the registry says that this version is there", _THERE, Act.SENDS),
    # npm: the version before is still being processed (graphql-hive/console#4812).
    Row((409,), Kind.BUSY, "the registry is still busy with the package", r"failed to save packument"),
    # CouchDB, "409 Conflict": the document's revision is another.
    Row((409,), Kind.TAKEN, "the registry says that there is a conflict", acts=Act.SENDS),
    Row((409,), Kind.BUSY, "the registry says that the package is being changed by somebody else"),
    # GitHub, "Rate limits": 403 as well as 429 (changesets/changesets#853).
    Row((403,), Kind.BUSY, "the registry asks for fewer requests", r"rate.?limit|too many requests|abuse"),
    # npm, "Package name guidelines".
    Row(
        (403,),
        Kind.REFUSED,
        "the registry doesn't take this name for a package",
        r"name too similar|spam|reserved name",
    ),
    # Gitea, services/packages: 403 "maximum allowed package … quota was exceeded". GitLab: 400 "File is too large".
    # Verdaccio: 413 with the setting max_body_size. nginx: 413 with client_max_body_size, as a page.
    Row(
        (400, 403, 413, 422, 507), Kind.REFUSED, "the registry has no more room for the project", r"quota|storage limit"
    ),
    Row((413,), Kind.REFUSED, "the tarball is too large for the registry, or for a proxy before it"),
    Row((400, 422), Kind.REFUSED, "the tarball is too large for the registry", r"too large"),
    # GitHub: 403 "Permission not_found: owner not found" (community#122487), "The token provided does not match
    # expected scopes", 400 "RepoAcceptsPackageUploads".
    Row(
        (403, 404),
        Kind.FORBIDDEN,
        "the registry knows nobody of the package's scope: on some registries it must be the name of the owner",
        r"owner not found",
    ),
    Row((403,), Kind.FORBIDDEN, "the project's token isn't one for publishing packages", r"expected scopes"),
    Row((403, 451), Kind.FORBIDDEN, "the registry forbids it to the project's token"),
    # npm: 404 to a PUT says that the token may not publish this package, so as not to say whether it is there
    # (typescript-eslint/typescript-eslint#9090). GitLab, "Project Not Found": the token doesn't see the project.
    Row(
        (404,),
        Kind.FORBIDDEN,
        "the registry doesn't let the project's token publish this package (such a token may also have expired)",
        _HIDDEN,
        Act.SENDS,
    ),
    # Verdaccio, Gitea, GitLab and all others without stages.
    Row((400, 404, 405, 501), Kind.UNSUPPORTED, "the registry has no stages", acts=Act.LIST_STAGES),
    Row((404, 405, 501), Kind.UNSUPPORTED, "the registry has no stages", acts=Act.STAGE),
    Row(
        (404,),
        Kind.FORBIDDEN,
        "the registry has no such place, or doesn't let the project's token publish there",
        acts=Act.UPLOAD,
    ),
    Row((404, 410), Kind.ABSENT, "the registry has no such stage", acts=Act.ABOUT_STAGES),
    Row((404, 410), Kind.ABSENT, "the registry has no such package, or this token can't see it"),
    # RFC 9110, sections 15.5.6 and 15.6.2. (A Nexus repository of the kind "group" or "proxy" takes no PUT.)
    Row((405, 501), Kind.UNSUPPORTED, "the registry doesn't know such a request"),
    # npm: 429 with Retry-After of some minutes, and a page (npm/cli#7784). RFC 6585, RFC 8470.
    Row((408, 420, 425, 429), Kind.BUSY, "the registry asks for fewer requests"),
    # RFC 6585: a network that wants to be signed in to.
    Row((511,), Kind.REFUSED, "the network before the registry wants to be signed in to"),
    # Verdaccio: 503 "one of the uplinks is down, refuse to publish".
    Row(_SERVER, Kind.BUSY, "the registry is out of order"),
    Row((400, 406, 415, 422), Kind.REFUSED, "the registry finds a fault in it"),
)


class _Body(msgspec.Struct):
    error: object = None
    reason: object = None
    message: object = None
    errors: object = None
    auth_page: object = msgspec.field(default=None, name="authUrl")


def refusal(
    act: Act,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    hide: Callable[[str], str] = str,
    now: Callable[[], float] = time.time,
) -> Answer:
    """
    Return what an answer means that isn't a good one.

    :param headers: by their names in small letters
    :param body: the beginning of it
    :param hide: takes what is secret out of a text
    """
    found = _decoded(body)
    words = _words(found, body)
    text = "".join(f"{name}: {headers[name]}\n" for name in TELLING if name in headers) + words
    row = next((row for row in TABLE if row.fits(act, status, text)), None)
    kind = row.kind if row is not None else Kind.REFUSED
    said = row.said if row is not None else "the registry doesn't do it"
    own = shown(hide(words), MAX_WORDS)
    page = found.auth_page if isinstance(found.auth_page, str) and kind is Kind.OTP else ""
    return Answer(
        kind=kind,
        said=f"{said} ({status}{f': {own}' if own else ''})",
        after=retry_after(headers.get("retry-after", ""), now=now),
        status=status,
        notice=notice_of(headers, hide),
        page=page if re.fullmatch(r"https?://[\x21-\x7e]{1,2000}", page) else "",
    )


def notice_of(headers: Mapping[str, str], hide: Callable[[str], str]) -> str:
    """Return what a registry wants people to read; "" is nothing."""
    return shown(hide(headers.get("npm-notice", "")), 2 * MAX_WORDS)


def retry_after(value: str, *, now: Callable[[], float] = time.time) -> float:
    """Return the seconds that Retry-After asks for (RFC 9110, section 10.2.3: seconds or a date); 0.0 for none."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), MAX_AFTER)
    try:
        until = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return 0.0
    return min(max(until - now(), 0.0), MAX_AFTER)


def _decoded(body: bytes) -> _Body:
    try:
        return msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Body()


def _words(found: _Body, body: bytes) -> str:
    """The registry's own words; of a page, its title."""
    texts = [text for text in (found.error, found.reason, found.message) if isinstance(text, str) and text]
    if isinstance(found.errors, list):  # Artifactory: {"errors": [{"status": 403, "message": "…"}]}
        texts += [each["message"] for each in found.errors if isinstance(each, dict) and "message" in each]
    if texts:
        return ": ".join(dict.fromkeys(str(text) for text in texts))
    text = body[:16384].decode("utf-8", "replace").strip()
    if text.startswith("<"):
        title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
        said = re.search(r"<div class=\"content-section\">\s*([^<]*[^<\s])", text)  # Nexus
        parts = ["a page", *([repr(title[1].strip())] if title is not None else []), *([said[1]] if said else [])]
        return ", ".join(parts)
    return "" if text.startswith(("{", "[")) else text
