"""`twistedipc approve`, `refuse` and `sessions`, and a followed build that waits for another person."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli_server import Server, as_json, problem, serving
from tests.test_cli_commands import ATTEMPT, BUILD, DETAIL, log_with, run
from tests.test_cli_packages import UI
from twistedipc.cli import approvals, builds


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


COMMIT = "ab" * 20
WAITS = {**DETAIL, "state": "waiting_approval", "reason": "", "commit": COMMIT, "subject": "Two", "attempts": [
    {**ATTEMPT, "state": "waiting_approval", "reason": ""}]}  # fmt: skip
CHANGES = {
    "live": 3,
    "added_count": 60,
    "removed_count": 1,
    "changed_count": 1,
    "size_before": 2048,
    "size": 4096,
    "added": [{"path": f"new-{number}.js", "before": None, "after": 100} for number in range(60)],
    "removed": [{"path": "old.js", "before": 10, "after": None}],
    "changed": [{"path": "index.html", "before": 5, "after": 7}],
}


def ended(state: str, reason: str = "") -> dict[str, object]:
    return {**WAITS, "state": state, "reason": reason, "attempts": [{**ATTEMPT, "state": state, "reason": reason}]}


# -- approve and refuse ----------------------------------------------------------------------------------------------


def test_what_would_change_is_shown_before_it_is_approved(server: Server) -> None:
    server.on("GET /api/v1/builds/7", as_json(WAITS))
    server.on("GET /api/v1/builds/7/changes", as_json(CHANGES))
    server.on("POST /api/v1/builds/7/approve", as_json(ended("succeeded")))
    result = run(server, "approve", "7", given="y\n")
    assert result.exit_code == 0, result.output
    assert "build 7 of shop, main: abababababab Two" in result.stderr
    assert "new-0.js" in result.stdout
    assert "new-50.js" not in result.stdout
    assert "and 12 more" in result.stderr
    assert "release 3 is live; 60 files are new, 1 changed, 1 gone" in result.stderr
    assert "Approve it, asked for by ann?" in result.stderr
    assert result.stderr.endswith("build 7 is approved\n")
    assert [asked.method for asked in server.asked] == ["GET", "GET", "POST"]


def test_a_person_who_says_no_has_approved_nothing(server: Server) -> None:
    server.on("GET /api/v1/builds/7", as_json(WAITS))
    server.on("GET /api/v1/builds/7/changes", as_json({**CHANGES, "live": None, "added": [], "added_count": 0}))
    assert run(server, "approve", "7", given="n\n").exit_code == 1
    assert "POST" not in [asked.method for asked in server.asked]


def test_approved_without_a_question_though_the_archive_is_gone(server: Server) -> None:
    server.on("GET /api/v1/builds/7", as_json(WAITS))
    server.on("GET /api/v1/builds/7/changes", problem(404, "the archives of what is to be compared are gone"))
    server.on("POST /api/v1/builds/7/approve", as_json(ended("succeeded", "release 4 didn't go live: it is older")))
    result = run(server, "approve", "7", "--yes")
    assert result.exit_code == 0
    assert "can't be shown: the archives of what is to be compared are gone" in result.stderr
    assert result.stderr.endswith("build 7 is approved, but release 4 didn't go live: it is older\n")


def test_the_one_who_asked_may_not_approve(server: Server) -> None:
    server.on("GET /api/v1/builds/7", as_json(WAITS))
    server.on("GET /api/v1/builds/7/changes", as_json(CHANGES))
    server.on("POST /api/v1/builds/7/approve", problem(403, "you have asked for build 7 yourself"))
    result = run(server, "approve", "7", "--yes")
    assert (result.exit_code, "you have asked for build 7 yourself" in result.stderr) == (3, True)


def test_refuse(server: Server) -> None:
    server.on("POST /api/v1/builds/7/refuse", as_json(ended("cancelled")))
    result = run(server, "refuse", "7", "--reason", "wrong colour")
    assert (result.exit_code, result.stderr) == (0, "build 7 is refused\n")
    assert server.asked[0].json == {"reason": "wrong colour"}
    assert run(server, "refuse", "7").exit_code == 0
    assert server.asked[1].json == {}


# -- a followed build ------------------------------------------------------------------------------------------------


def test_a_followed_build_that_waits_ends_with_a_code_of_its_own(server: Server) -> None:
    server.on("POST /api/v1/projects/shop/builds", as_json(BUILD, 201))
    server.on("GET /api/v1/builds/7/log", log_with("one", state="waiting_approval"))
    server.on("GET /api/v1/builds/7", as_json(WAITS))
    result = run(server, "build", "shop", "--follow")
    assert result.exit_code == 8
    assert result.stdout == "one\n"
    assert result.stderr.endswith("build 7 waits for another person's approval: `twistedipc approve 7`\n")


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("cancelled", 1)])
@pytest.mark.parametrize("command", [("build", "shop"), ("retry", "7")])
def test_with_wait_it_waits_for_the_decision(
    server: Server, monkeypatch: pytest.MonkeyPatch, state: str, code: int, command: tuple[str, str]
) -> None:
    monkeypatch.setattr(builds, "DECISION_INTERVAL", 0)
    server.on("POST /api/v1/projects/shop/builds", as_json(BUILD, 201))
    server.on("POST /api/v1/builds/7/retry", as_json(BUILD, 201))
    server.on("GET /api/v1/builds/7/log", log_with("one", state="waiting_approval"))
    server.on("GET /api/v1/builds/7", as_json(WAITS), as_json(WAITS), as_json(ended(state)))
    result = run(server, *command, "--follow", "--wait")
    assert result.exit_code == code, result.output
    assert result.stderr.endswith(f"build 7 {state}\n")
    assert [asked.path for asked in server.asked].count("/api/v1/builds/7") >= 3


# -- sessions --------------------------------------------------------------------------------------------------------

SESSION = {
    "id": 12,
    "name": "ann",
    "token": 3,
    "created": "2026-01-02T03:04:05.678Z",
    "last_used": None,
    "expires": "2026-01-03T03:04:05.678Z",
    "address": "192.0.2.7",
    "agent": "Firefox\x1b[2J",
    "current": False,
}


def test_sessions_are_listed(server: Server) -> None:
    server.on("GET /api/v1/sessions", as_json({"sessions": [SESSION]}), as_json({"sessions": []}))
    result = run(server, "sessions")
    assert result.exit_code == 0
    assert all(part in result.stdout for part in ("12", "ann", "192.0.2.7", "Firefox"))
    assert "\x1b" not in result.stdout, "a browser may call itself anything"
    assert "no browser is signed in" in run(server, "sessions").output
    assert json.loads(run(server, "sessions", "--json").stdout) == {"sessions": []}


def test_sessions_are_ended(server: Server) -> None:
    server.on("DELETE /api/v1/sessions/12", as_json(None, 204))
    server.on("DELETE /api/v1/sessions", as_json(None, 204))
    assert run(server, "sessions", "--end", "12").stderr == "session 12 is over\n"
    assert run(server, "sessions", "--end-all").stderr == "all of your sessions are over\n"
    assert server.asked[1].query == {"all": "1"}
    assert run(server, "sessions", "--end", "13").exit_code == 4


# -- packages --------------------------------------------------------------------------------------------------------

PACKAGE = {
    "target": "npm", "name": "@acme/ui", "version": "1.1.0", "tag": "latest", "integrity": "sha512-x",
    "size_packed": 2048, "published": "1.0.0", "unknown": "", "added_count": 1, "removed_count": 0, "changed_count": 0,
    "size_before": 10, "size": 20, "added": [{"path": "evil.js", "before": None, "after": 10}], "removed": [],
    "changed": [], "notes": ["the script postinstall is new: node evil.js"],
}  # fmt: skip
NO_RELEASE = {**CHANGES, "live": None, "added": [], "removed": [], "changed": [], "release": False}


def test_what_packages_would_change_is_shown(server: Server) -> None:
    other = {**PACKAGE, "name": "@acme/new", "published": "", "unknown": "the registry doesn't answer", "notes": []}
    server.on("GET /api/v1/builds/7", as_json(WAITS))
    server.on("GET /api/v1/builds/7/changes", as_json({**NO_RELEASE, "packages": [PACKAGE, other]}))
    server.on("POST /api/v1/builds/7/approve", as_json(ended("delivering")))
    result = run(server, "approve", "7", "--yes")
    assert result.exit_code == 0, result.output
    assert "@acme/ui@1.1.0, to be published to npm as latest: 2.0 KiB packed" in result.stderr
    assert "against @acme/ui@1.0.0" in result.stderr
    assert "evil.js" in result.stdout
    assert "package.json: the script postinstall is new: node evil.js" in result.stderr
    assert "what is published isn't known: the registry doesn't answer" in result.stderr
    assert "nothing is live" not in result.stderr
    assert "its packages are being published: `twistedipc logs 7`" in result.stderr


EVIDENCE = {
    **NO_RELEASE,
    "log": {"records": 812, "sha256": "ab" * 32, "complete": True},
    "hosts": [
        {"host": "evil.example", "port": 443, "step": "build", "refused": "", "new": True},
        {"host": "2001:db8::1", "port": 80, "step": "build", "refused": "it isn't allowed", "new": True},
        {"host": "r.example", "port": 0, "step": "install", "refused": "", "new": False},
    ],
    "hosts_said": "5 more hosts found no room",
    "packages": [{
        **PACKAGE,
        "remarks": [
            {"level": "danger", "about": "script", "name": "postinstall", "before": None, "after": "x",
             "text": "the script postinstall is new: node \x1b[2Jx"},
            {"level": "info", "about": "field", "name": "main", "before": "a", "after": "b", "text": "main was a"},
        ],
        "more_remarks": 3,
        "publint_why": "it is off",
    }],
}  # fmt: skip


def test_what_a_build_would_change_can_be_looked_at_by_itself(server: Server) -> None:
    server.on("GET /api/v1/builds/7/changes", as_json(EVIDENCE))
    result = run(server, "changes", "7")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        f"log: complete, verified; 812 records, SHA-256 {'ab' * 32}",
        "hosts that the build contacted: evil.example:443 (NEW: the build before didn't), [2001:db8::1]:80 (refused: "
        "it isn't allowed), r.example; 5 more hosts found no room",
    ]
    assert lines[4:8] == [
        "DANGER   the script postinstall is new: node x", "info     main was a", "and 3 more remarks",
        "publint hasn't looked at it: it is off",
    ]  # fmt: skip
    assert json.loads(run(server, "changes", "7", "--json").stdout) == EVIDENCE
    nothing = {"log": {"records": 0, "sha256": "", "complete": False}, "hosts": [], "hosts_said": ""}
    server.on("GET /api/v1/builds/7/changes", as_json({**NO_RELEASE, **nothing}))
    assert run(server, "changes", "7").stdout.splitlines() == [
        "log: NOT VERIFIED: it may not be all that the build printed; 0 records, SHA-256 not known",
        "hosts that the build contacted: none",
    ]
    assert run(server, "changes", "8").exit_code == 4


# -- with a one-time password ----------------------------------------------------------------------------------------


def published(state: str, *, position: int = 0, reason: str = "") -> dict[str, object]:
    name = f"@acme/p{position}"
    return {**UI, "name": name, "position": position, "state": state, "reason": reason, "steps": []}


def with_packages(state: str, *packages: dict[str, object], reason: str = "", tone: str = "busy") -> dict[str, object]:
    return {**WAITS, "state": state, "tone": tone, "reason": reason, "publications": list(packages)}


STAGED = with_packages("waiting_approval", published("staged"), published("staged", position=1), reason="2 are staged")


@pytest.fixture
def staged(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A build whose packages are staged; the first password is refused after one package."""
    monkeypatch.setattr(approvals, "PROGRESS_INTERVAL", 0.0)
    one, two = published("published"), published("published", position=1)
    again = with_packages("waiting_approval", published("approved"), published("staged", position=1), reason="refused")
    server.on(
        "GET /api/v1/builds/7", as_json(STAGED), as_json(with_packages("delivering", published("approved"),
        published("staged", position=1))), as_json(again), as_json(with_packages("succeeded", one, two, tone="good")),
    )  # fmt: skip
    server.on("GET /api/v1/builds/7/changes", as_json(NO_RELEASE))
    begun = with_packages("delivering", published("staged"), published("staged", position=1))
    server.on("POST /api/v1/builds/7/approve", as_json(begun))
    return server


def test_what_is_staged_is_approved_with_passwords(staged: Server) -> None:
    result = run(staged, "approve", "7", "--yes", "--otp", "-", given="111111\n222222\n")
    assert result.exit_code == 0, result.output
    assert [asked.json for asked in staged.asked if asked.method == "POST"] == [{"otp": "111111"}, {"otp": "222222"}]
    said = result.stderr.splitlines()
    assert said.index("@acme/p0@1.2.0: approved") < said.index("refused") < said.index("@acme/p1@1.2.0: published")
    assert said[-1] == "build 7 succeeded"
    assert "can be approved at the registry itself too" in result.stderr
    assert "111111" not in result.output


def test_passwords_that_run_out_leave_it_waiting(staged: Server) -> None:
    result = run(staged, "approve", "7", "--yes", "--otp", "-", given="111111\n")
    assert (result.exit_code, "no (further) one-time password" in result.stderr) == (2, True)
    assert run(staged, "approve", "7", "--yes", "--otp", "111111").exit_code == 2


def test_a_set_that_fails_says_so(staged: Server) -> None:
    failed = published("failed", reason="the registry forbids it")
    staged.on(
        "GET /api/v1/builds/7", as_json(STAGED), as_json(with_packages("failed", failed, reason="no", tone="bad"))
    )
    result = run(staged, "approve", "7", "--yes", "--otp", "-", given="111111\n")
    assert (result.exit_code, result.stderr.splitlines()[-2:]) == (
        1, ["@acme/p0@1.2.0: failed, the registry forbids it", "Error: build 7 failed: no"],
    )  # fmt: skip


def test_what_is_staged_is_refused_with_a_password(staged: Server) -> None:
    staged.on("POST /api/v1/builds/7/refuse", as_json(ended("cancelled")))
    assert run(staged, "refuse", "7", "--otp", "-", given="111111\n").exit_code == 0
    assert staged.asked[-1].json == {"otp": "111111"}
