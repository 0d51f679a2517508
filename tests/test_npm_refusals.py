"""What the registries that there are answer, understood. Each answer is quoted from where `refusals.TABLE` says."""

from __future__ import annotations

import json

import pytest

from twistedipc.publish.targets.npm.refusals import MAX_WORDS, Act, refusal, retry_after
from twistedipc.publish.targets.npm.registry import Answer, Kind


def error(text: str) -> bytes:
    return json.dumps({"error": text}).encode()


PAGE = b"<html>\r\n<head><title>%s</title></head><body>nginx</body></html>"
OVER = "You cannot publish over the previously published versions: 1.0.0."
BYPASS = "Two-factor authentication or granular access token with bypass 2fa enabled is required to publish packages."
HIDDEN = "The requested resource '@acme/ui@1.0.0' could not be found or you do not have permission to access it."
REDEPLOY = "npm-hosted/ui-1.0.0.tgz - cannot be updated as asset already exists and redeploy is not allowed"
NEXUS = (
    b"<!DOCTYPE html>\n<html><head><title>400 - Nexus Repository Manager</title></head><body><div "
    b'class="content-section">\n    %s\n  </div></body></html>'
)
UPLINK = "one of the uplinks is down, refuse to publish"

ANSWERS: list[tuple[str, Act, int, dict[str, str], bytes, Kind]] = [
    # the public registry
    ("npm", Act.UPLOAD, 403, {}, error(OVER), Kind.TAKEN),
    ("npm", Act.UPLOAD, 409, {}, error('Cannot publish over previously staged version "1.0.0".'), Kind.TAKEN),
    ("npm", Act.STAGE, 409, {}, error('Cannot publish over previously staged version "1.0.0".'), Kind.TAKEN),
    ("npm", Act.UPLOAD, 422, {}, error("Validation failed: Filename already exists."), Kind.TAKEN),
    ("npm", Act.UPLOAD, 409, {}, error("Failed to save packument. A common cause is if you try to …"), Kind.BUSY),
    ("npm", Act.UPLOAD, 403, {}, error(BYPASS), Kind.OTP),
    ("npm", Act.APPROVE, 401, {"www-authenticate": "OTP"}, b"", Kind.OTP),
    ("npm", Act.APPROVE, 401, {}, error("You must provide a one-time pass. Upgrade your client."), Kind.OTP),
    ("npm", Act.UPLOAD, 401, {"www-authenticate": "ipaddress"}, b"", Kind.DENIED),
    ("npm", Act.UPLOAD, 404, {"npm-notice": "Access token expired or revoked."}, error("Not found"), Kind.DENIED),
    ("npm", Act.UPLOAD, 404, {}, error(HIDDEN), Kind.FORBIDDEN),
    ("npm", Act.STAGE, 404, {}, error(HIDDEN), Kind.FORBIDDEN),
    ("npm", Act.UPLOAD, 404, {}, error("Not found"), Kind.FORBIDDEN),
    ("npm", Act.UPLOAD, 402, {}, error("You must sign up for private packages"), Kind.REFUSED),
    ("npm", Act.UPLOAD, 403, {}, error("Package name too similar to existing package ui-s"), Kind.REFUSED),
    ("npm", Act.UPLOAD, 403, {}, error('You do not have permission to publish "ui".'), Kind.FORBIDDEN),
    ("npm", Act.UPLOAD, 413, {}, error("Payload Too Large"), Kind.REFUSED),
    ("npm", Act.UPLOAD, 429, {"retry-after": "1934"}, PAGE % b"Rate limited", Kind.BUSY),
    ("npm", Act.UPLOAD, 429, {}, error("Could not publish, as user undefined: rate limited exceeded"), Kind.BUSY),
    ("npm", Act.LOOK, 404, {}, error("Not found"), Kind.ABSENT),
    ("npm", Act.VIEW_STAGE, 404, {}, b"", Kind.ABSENT),
    # GitHub Packages
    ("GitHub", Act.UPLOAD, 409, {}, error("Cannot publish over existing version"), Kind.TAKEN),
    ("GitHub", Act.UPLOAD, 403, {}, error("Permission not_found: owner not found"), Kind.FORBIDDEN),
    ("GitHub", Act.UPLOAD, 403, {}, error("The token provided does not match expected scopes."), Kind.FORBIDDEN),
    ("GitHub", Act.UPLOAD, 403, {"retry-after": "60"}, error("You have exceeded a secondary rate limit."), Kind.BUSY),
    ("GitHub", Act.UPLOAD, 400, {}, error('RepoAcceptsPackageUploads: Repository "a/b" does not exist.'), Kind.REFUSED),
    ("GitHub", Act.UPLOAD, 403, {"x-ratelimit-remaining": "59"}, error("Forbidden"), Kind.FORBIDDEN),
    ("GitHub", Act.LOOK, 401, {}, error("authentication token not provided"), Kind.DENIED),
    # GitLab
    ("GitLab", Act.UPLOAD, 403, {}, b'{"message":"403 Forbidden - Package already exists."}', Kind.TAKEN),
    ("GitLab", Act.UPLOAD, 400, {}, b'{"message":"400 Bad request - Package already exists."}', Kind.TAKEN),
    ("GitLab", Act.UPLOAD, 400, {}, b'{"message":"400 Bad request - File is too large."}', Kind.REFUSED),
    ("GitLab", Act.UPLOAD, 404, {}, b'{"message":"404 Project Not Found"}', Kind.FORBIDDEN),
    ("GitLab", Act.UPLOAD, 403, {}, b'{"message":"403 Forbidden"}', Kind.FORBIDDEN),
    ("GitLab", Act.LIST_STAGES, 404, {}, b'{"error":"404 Not Found"}', Kind.UNSUPPORTED),
    ("GitLab", Act.TAG, 404, {}, b'{"message":"404 Package Not Found"}', Kind.ABSENT),
    # Gitea, Forgejo
    ("Gitea", Act.UPLOAD, 400, {}, error("package version already exists"), Kind.TAKEN),
    ("Gitea", Act.UPLOAD, 409, {}, error("package version already exists"), Kind.TAKEN),
    ("Gitea", Act.UPLOAD, 403, {}, error("maximum allowed package type size quota was exceeded"), Kind.REFUSED),
    ("Gitea", Act.UPLOAD, 403, {}, error("no permission to upload this package"), Kind.FORBIDDEN),
    ("Gitea", Act.TAG, 400, {}, error("The tag name is invalid"), Kind.REFUSED),
    # Verdaccio
    ("Verdaccio", Act.UPLOAD, 409, {}, error("this package is already present"), Kind.TAKEN),
    ("Verdaccio", Act.UPLOAD, 403, {}, error("user ci is not allowed to publish package ui"), Kind.FORBIDDEN),
    ("Verdaccio", Act.UPLOAD, 413, {}, error("request entity too large"), Kind.REFUSED),
    ("Verdaccio", Act.UPLOAD, 503, {}, error(UPLINK), Kind.BUSY),
    ("Verdaccio", Act.LOOK, 404, {}, error("no such package available"), Kind.ABSENT),
    ("Verdaccio", Act.LIST_STAGES, 404, {}, error("File not found"), Kind.UNSUPPORTED),
    # Artifactory, Nexus, CouchDB
    (
        "Artifactory",
        Act.UPLOAD,
        403,
        {},
        b'{"errors":[{"status":403,"message":"Not enough permissions to delete/overwrite artifact"}]}',
        Kind.TAKEN,
    ),
    (
        "Artifactory",
        Act.UPLOAD,
        403,
        {},
        b"Not enough permissions to overwrite artifact 'npm-local:u-1.tgz'(user 'ci' needs DELETE permission).",
        Kind.TAKEN,
    ),
    ("Artifactory", Act.UPLOAD, 401, {}, b'{"errors":[{"status":401,"message":"Bad credentials"}]}', Kind.DENIED),
    ("Nexus", Act.UPLOAD, 400, {}, error("Repository does not allow updating assets: npm-hosted"), Kind.TAKEN),
    ("Nexus", Act.UPLOAD, 400, {}, NEXUS % b"Repository does not allow updating assets: npm-hosted", Kind.TAKEN),
    ("Nexus", Act.UPLOAD, 400, {}, NEXUS % b"Repository npm-hosted is offline", Kind.REFUSED),
    ("Nexus", Act.UPLOAD, 400, {}, error("npm-hosted/ui-1.0.0.tgz cannot be updated"), Kind.TAKEN),
    ("Nexus", Act.UPLOAD, 409, {}, error(REDEPLOY), Kind.TAKEN),
    (
        "Nexus 2",
        Act.UPLOAD,
        400,
        {},
        PAGE % b"400 - Repository with ID='npm-corporate' does not allow updating artifacts.",
        Kind.TAKEN,
    ),
    ("Nexus", Act.UPLOAD, 405, {}, b"", Kind.UNSUPPORTED),
    ("Nexus", Act.LIST_STAGES, 400, {}, b"", Kind.UNSUPPORTED),
    ("npm", Act.STAGE, 400, {}, error("bad document"), Kind.REFUSED),
    ("Nexus", Act.SEARCH, 400, {}, b"", Kind.UNSUPPORTED),
    ("GitLab", Act.SEARCH, 404, {}, b'{"error":"404 Not Found"}', Kind.UNSUPPORTED),
    ("npm", Act.SEARCH, 429, {}, PAGE % b"429", Kind.BUSY),
    ("CouchDB", Act.UPLOAD, 409, {}, b'{"error":"conflict","reason":"Document update conflict."}', Kind.TAKEN),
    ("CouchDB", Act.DEPRECATE, 409, {}, b'{"error":"conflict","reason":"Document update conflict."}', Kind.BUSY),
    ("CouchDB", Act.LOOK, 404, {}, b'{"error":"not_found","reason":"missing"}', Kind.ABSENT),
    # what is between
    ("nginx", Act.UPLOAD, 413, {}, PAGE % b"413 Request Entity Too Large", Kind.REFUSED),
    ("nginx", Act.UPLOAD, 502, {}, PAGE % b"502 Bad Gateway", Kind.BUSY),
    ("a proxy", Act.LOOK, 407, {}, b"", Kind.DENIED),
    ("a proxy", Act.LOOK, 511, {}, PAGE % b"Sign in", Kind.REFUSED),
    ("a proxy", Act.LOOK, 418, {}, b"", Kind.REFUSED),
]


@pytest.mark.parametrize(
    ("act", "status", "headers", "body", "kind"),
    [answer[1:] for answer in ANSWERS],
    ids=[f"{answer[0]}-{answer[1].name}-{answer[2]}-{index}" for index, answer in enumerate(ANSWERS)],
)
def test_what_a_refusal_means(act: Act, status: int, headers: dict[str, str], body: bytes, kind: Kind) -> None:
    answer = refusal(act, status, headers, body)
    assert (answer.kind, answer.status) == (kind, status), answer.said
    assert f"({status}" in answer.said
    assert "\n" not in answer.said


def test_the_sentence_has_the_registrys_own_words() -> None:
    said = [refusal(Act.UPLOAD, status, {}, body).said for status, body in ((403, error("no\x07t\nthis")), (502, PAGE))]
    assert said == [
        "the registry forbids it to the project's token (403: no\ufffdt\ufffdthis)",
        "the registry is out of order (502: a page, '%s')",
    ]
    assert refusal(Act.UPLOAD, 400, {}, NEXUS % b"Repository npm-hosted is offline").said == (
        "the registry finds a fault in it (400: a page, '400 - Nexus Repository Manager', Repository npm-hosted is "
        "offline)"
    )
    assert len(refusal(Act.LOOK, 400, {}, b"x" * 9000).said) < MAX_WORDS + 100
    nothing = (b"", b"{}", b"[1]", b'{"error": 7}', b'{"a":' * 9999)
    assert {refusal(Act.LOOK, 400, {}, body).said for body in nothing} == {"the registry finds a fault in it (400)"}


def test_a_secret_at_the_end_of_what_is_shown_is_hidden_as_a_whole() -> None:
    text = "x" * (MAX_WORDS - 5) + "npm_Secret"
    assert (
        "npm" not in refusal(Act.LOOK, 400, {}, text.encode(), hide=lambda said: said.replace("npm_Secret", "***")).said
    )


@pytest.mark.parametrize(
    ("page", "kept"),
    [
        ("https://www.example.org/auth/cli/1-2", "https://www.example.org/auth/cli/1-2"),
        ("javascript:alert(1)", ""),
        ("https://x/\n", ""),
        (7, ""),
    ],
)
def test_the_page_at_which_a_person_confirms(page: object, kept: str) -> None:
    body = json.dumps({"authUrl": page, "doneUrl": "https://registry.example.org/done"}).encode()
    answer = refusal(Act.APPROVE, 401, {"www-authenticate": "OTP"}, body)
    assert (answer.kind, answer.page) == (Kind.OTP, kept)
    assert refusal(Act.APPROVE, 403, {}, body) == Answer(
        kind=Kind.FORBIDDEN, status=403, said="the registry forbids it to the project's token (403)"
    )


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("-1", 0.0),
        ("1e9", 0.0),
        ("999999", 3600.0),
        ("Sun, 29 Nov 2026 09:00:30 GMT", 30.0),
        ("Sun, 29 Nov 2026 08:00:00 GMT", 0.0),
        ("Sun, 29 Nov 2036 08:00:00 GMT", 3600.0),
        ("soon", 0.0),
        ("Sun, 99 Nov 2026 09:00:30 GMT", 0.0),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    assert retry_after(value, now=lambda: 1795942800.0) == seconds
