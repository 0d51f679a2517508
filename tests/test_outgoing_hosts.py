"""What the hosts of repositories are told: against hosts that do what their documentation says."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest

from tests.outside import TOKEN, Gitea, GitHub, GitLab, Killed, RepositoryHost, hold, json
from twistedipc.builds.names import BadValue
from twistedipc.builds.states import Phase
from twistedipc.outgoing import gitea, github, gitlab
from twistedipc.outgoing.addresses import api_of, mail_addresses, masked, path_of, web_address
from twistedipc.outgoing.exchange import Again, Answer, Exchange, NotTold, failed
from twistedipc.outgoing.told import At, Destination, Told

COMMIT = "c0ffee" + "0" * 34
AT = At(build="https://builds.example/#/builds/17")
LIVE = At(build=AT.build, site="https://shop.example/", live=True)
TOLD = Told(project="shop", build=17, attempt=1, phase=Phase.RUNNING, ref="main", commit=COMMIT, number=7,
            environment="production", created=1000, started=2000)  # fmt: skip
ENDED = msgspec.structs.replace(TOLD, phase=Phase.SUCCEEDED, ended=67_000)

MODULES = {"github": github, "gitlab": gitlab, "gitea": gitea}
HOSTS: dict[str, Callable[[], RepositoryHost]] = {
    "github": lambda: GitHub([COMMIT]),
    "gitlab": lambda: GitLab([COMMIT]),
    "gitea": lambda: Gitea([COMMIT]),
}


def to(kind: str, secret: str = TOKEN) -> Destination:
    path = "team%2Fshop" if kind == "gitlab" else "team/shop"
    return Destination(where=HOSTS[kind]().base, repository=path, secret=secret, mark="shop 0123456789abcdef")


def tell(kind: str, part: str, told: Told, at: At = AT) -> Exchange:
    exchange: Exchange = getattr(MODULES[kind], part)(to(kind), told, at)
    return exchange


def test_a_preview_is_not_where_an_environment_is() -> None:
    host = GitLab()
    for told, at in ((TOLD, AT), (ENDED, msgspec.structs.replace(LIVE, live=False))):
        hold(host, tell("gitlab", "deployment", told, at))
    assert host.environments[0].get("external_url") != LIVE.site


@pytest.mark.parametrize("kind", HOSTS)
def test_a_commit_has_each_state_of_its_build(kind: str) -> None:
    host = HOSTS[kind]()
    for phase in (Phase.QUEUED, Phase.RUNNING, Phase.SUCCEEDED):
        hold(host, tell(kind, "status", msgspec.structs.replace(TOLD, phase=phase)))
    expected = {"github": ["pending", "success"], "gitlab": ["pending", "running", "success"]}
    assert host.states_of(COMMIT) == expected.get(kind, ["pending", "success"])
    body = msgspec.json.decode(host.asked[-1].body)
    assert body["target_url"] == AT.build
    assert "twistedipc/shop" in (body.get("context"), body.get("name"))


@pytest.mark.parametrize("kind", HOSTS)
@pytest.mark.parametrize("phase", Phase)
def test_every_phase_can_be_told_twice(kind: str, phase: Phase) -> None:
    """After a crash it is: the second time changes nothing, and is no failure."""
    host = HOSTS[kind]()
    told = msgspec.structs.replace(TOLD, phase=phase)
    hold(host, tell(kind, "status", told))
    hold(host, tell(kind, "status", told))
    assert len(host.states_of(COMMIT)) == 1


def test_gitlab_takes_no_step_back_and_begins_again_behind_an_end() -> None:
    host = GitLab([COMMIT])
    hold(host, tell("gitlab", "status", TOLD))
    queued = msgspec.structs.replace(TOLD, phase=Phase.QUEUED)
    assert "later" in hold(host, tell("gitlab", "status", queued))
    hold(host, tell("gitlab", "status", ENDED))
    assert hold(host, tell("gitlab", "status", queued)) == "", "an attempt that is tried again"
    assert host.states_of(COMMIT) == ["running", "success", "pending"]
    host.faults = [json(400, {"message": "Cannot transition status via :drop from :success (Reason(s): …)"})]
    with pytest.raises(NotTold):
        hold(host, tell("gitlab", "status", msgspec.structs.replace(TOLD, phase=Phase.FAILED)))


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("main", "main"),
        ("refs/heads/fix/cart", "fix/cart"),
        ("tags/v1", "v1"),
        ("refs/merge-requests/7/head", None),
        ("HEAD", None),
        (COMMIT, None),
    ],
)
def test_gitlab_is_told_of_which_branch(ref: str, said: str | None) -> None:
    """Else it takes the first one that has the commit, and shows the status at that one's merge request."""
    host = GitLab([COMMIT])
    host.branches = {"develop": {COMMIT}}
    hold(host, tell("gitlab", "status", msgspec.structs.replace(TOLD, ref=ref)))
    assert msgspec.json.decode(host.asked[-1].body).get("ref") == said
    assert host.jobs[0][1] == (said or "develop")


def test_the_description_says_the_address_first_and_is_short() -> None:
    host = GitHub([COMMIT])
    hold(host, tell("github", "status", ENDED, LIVE))
    said = msgspec.json.decode(host.asked[-1].body)["description"]
    assert said == "https://shop.example/ – Build 17 succeeded in 1 min 5 s"
    hold(host, tell("github", "status", ENDED, At(build=AT.build, site="https://" + "x" * 200 + ".example/")))
    assert len(msgspec.json.decode(host.asked[-1].body)["description"]) == 140


@pytest.mark.parametrize("kind", HOSTS)
def test_one_comment_is_made_and_then_changed(kind: str) -> None:
    host = HOSTS[kind]()
    host.comments = [{"id": number, "body": f"talk {number}"} for number in range(1, 131)]  # three pages
    hold(host, tell(kind, "comment", TOLD))
    hold(host, tell(kind, "comment", ENDED, LIVE))
    ours = [each["body"] for each in host.comments if "twistedipc" in each["body"]]
    assert len(ours) == 1
    assert len(host.comments) == 131
    assert ours[0].splitlines()[1] == "**https://shop.example/**"


@pytest.mark.parametrize("kind", HOSTS)
def test_a_comment_is_never_doubled_by_a_kill(kind: str) -> None:
    """At each point of the exchange."""
    for answers in range(10):
        host = HOSTS[kind]()
        try:
            hold(host, tell(kind, "comment", TOLD), answers)
        except Killed:
            hold(host, tell(kind, "comment", TOLD))
            assert len(host.comments) == 1
            continue
        break
    assert answers >= 1


def test_a_stranger_who_copies_the_mark_gets_nothing() -> None:
    """The oldest comment that has it is ours: nobody knows it before."""
    host = GitHub([COMMIT])
    hold(host, tell("github", "comment", TOLD))
    host.comments.append({"id": 9, "body": host.comments[0]["body"]})
    before = host.comments[1]["body"]
    hold(host, tell("github", "comment", ENDED))
    assert host.comments[1]["body"] == before != host.comments[0]["body"]


def test_what_a_build_says_means_nothing_in_a_comment() -> None:
    host = GitHub([COMMIT])
    reason = "step failed: @everyone <!-- ``` closes #1 [x](http://evil.example) ````"
    hold(host, tell("github", "comment", msgspec.structs.replace(TOLD, phase=Phase.FAILED, reason=reason)))
    body = host.comments[0]["body"]
    assert f"`````text\n{reason}\n`````" in body


@pytest.mark.parametrize("kind", ["github", "gitlab"])
def test_one_deployment_for_an_attempt(kind: str) -> None:
    host = HOSTS[kind]()
    for told, at in ((TOLD, AT), (TOLD, AT), (ENDED, LIVE), (ENDED, LIVE)):
        hold(host, tell(kind, "deployment", told, at))
    [deployment] = host.deployments
    assert deployment["environment"] == "production"
    if isinstance(host, GitHub):
        assert deployment["states"] == ["in_progress", "in_progress", "success", "success"]
        assert deployment["url"] == "https://shop.example/"
    if isinstance(host, GitLab):
        assert deployment["history"] == ["running", "success"]
        assert host.environments[0]["external_url"] == "https://shop.example/"


@pytest.mark.parametrize("kind", HOSTS)
def test_a_tag_is_made_once(kind: str) -> None:
    host = HOSTS[kind]()
    told = msgspec.structs.replace(ENDED, tag="@acme/ui@1.2.0-beta.1", notes="- faster")
    assert hold(host, tell(kind, "tag", told)) == ""
    assert "already" in hold(host, tell(kind, "tag", told))
    [made] = host.releases.values()
    assert COMMIT in (made.get("target_commitish"), made.get("ref"))
    assert made.get("prerelease", True) is True


# -- what a bad answer means -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "again", "after", "everything"),
    [
        (Answer(problem="it can't be reached"), Again.LONG, 0.0, True),
        (json(500, {}), Again.LONG, 0.0, True),
        (json(503, {}, retry_after="30"), Again.LONG, 30.0, True),
        (json(429, {}), Again.LONG, 60.0, True),
        (json(429, {}, retry_after="7"), Again.LONG, 7.0, True),
        (json(429, {}, retry_after="99999999"), Again.LONG, 3600.0, True),
        (json(429, {}, ratelimit_remaining="0", ratelimit_reset="1090"), Again.LONG, 90.0, True),  # GitLab
        (json(403, {}, x_ratelimit_remaining="0", x_ratelimit_reset="1500"), Again.LONG, 500.0, True),  # GitHub
        (json(403, {}, x_ratelimit_remaining="0", x_ratelimit_reset="9"), Again.LONG, 1.0, True),  # clocks differ
        (json(403, {"message": "You have exceeded a secondary rate limit."}), Again.LONG, 60.0, True),
        (json(403, {}, retry_after="12"), Again.LONG, 12.0, True),
        (json(403, {"message": "Resource not accessible"}, x_ratelimit_remaining="4999"), Again.SHORT, 0.0, False),
        (json(401, {}), Again.SHORT, 0.0, False),
        (json(404, {}), Again.SHORT, 0.0, False),
        (json(409, {}), Again.SHORT, 0.0, False),
        (json(422, {}), Again.SHORT, 0.0, False),
        (json(400, {}), Again.NEVER, 0.0, False),
        (json(410, {}), Again.NEVER, 0.0, False),
        (json(302, {}, location="http://169.254.169.254/"), Again.NEVER, 0.0, False),
    ],
)
def test_what_follows_from_an_answer(answer: Answer, again: Again, after: float, everything: bool) -> None:
    found = failed(answer, 1000, quote=True)
    assert (found.again, found.after, found.all) == (again, after, everything)
    assert "169.254" not in found.reason


def test_what_a_service_says_is_shown_of_repository_hosts_alone() -> None:
    answer = json(403, {"message": "Resource not accessible by personal access token"})
    assert "personal access" in failed(answer, 0, quote=True).reason
    assert failed(answer, 0, quote=False).reason == "it answered 403"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'"x"', b"\xff", b"null"])
@pytest.mark.parametrize("kind", HOSTS)
def test_an_answer_of_another_program_is_a_failure(kind: str, body: bytes) -> None:
    """And never a mistake of ours. (An empty list is a good answer, and what comes after it is one of the host's.)"""
    host = HOSTS[kind]()
    host.faults = [Answer(status=200, body=body)] * (1 if body == b"[]" else 5)
    if body == b"[]":
        hold(host, tell(kind, "comment", TOLD))
        assert len(host.comments) == 1
        return
    with pytest.raises(NotTold):
        hold(host, tell(kind, "comment", TOLD))


@pytest.mark.parametrize("kind", HOSTS)
def test_the_token_goes_to_the_api_alone(kind: str) -> None:
    """Pages are counted: the address of the next one, which an answer has, isn't asked."""
    host = HOSTS[kind]()
    host.comments = [{"id": number, "body": "talk"} for number in range(1, 131)]
    hold(host, tell(kind, "comment", TOLD))
    assert len(host.asked) > 1
    assert all(request.url.startswith(host.base) for request in host.asked)
    assert not any(TOKEN in request.url or TOKEN.encode() in request.body for request in host.asked)


# -- addresses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "repository", "api", "path"),
    [
        ("github", "https://github.com/team/shop.git", "https://api.github.com", "team/shop"),
        ("github", "git@github.com:team/shop.git", "https://api.github.com", "team/shop"),
        ("github", "ssh://git@ssh.github.com:443/team/shop", "https://api.github.com", "team/shop"),
        ("github", "https://acme.ghe.com/team/shop", "https://api.acme.ghe.com", "team/shop"),
        ("github", "https://git.acme.example/team/shop.git", "https://git.acme.example/api/v3", "team/shop"),
        ("gitlab", "https://gitlab.com/a/b/shop.git", "https://gitlab.com/api/v4", "a%2Fb%2Fshop"),
        ("gitlab", "ssh://git@git.example:2222/a/shop.git", "https://git.example/api/v4", "a%2Fshop"),
        ("gitea", "http://git.example:3000/a/shop.git", "http://git.example:3000/api/v1", "a/shop"),
        ("gitea", "https://user@codeberg.org/a/shop.git/", "https://codeberg.org/api/v1", "a/shop"),
    ],
)
def test_where_the_api_is(kind: str, repository: str, api: str, path: str) -> None:
    assert api_of(kind, repository) == api  # type: ignore[arg-type]  # the table has good ones
    assert path_of(kind, repository) == path  # type: ignore[arg-type]


def test_a_local_repository_has_no_api() -> None:
    with pytest.raises(BadValue, match="no host"):
        api_of("github", "/srv/shop.git")


@pytest.mark.parametrize(
    "where",
    ["ftp://x.example/", "https://", "https://u:p@x.example/", "https://x.example/#a", "https://x.example:0/",
     "https://x.example/\n", "https://x.example/a b", "javascript:alert(1)", "https://[::1", "https://x:99999/"],
)  # fmt: skip
def test_addresses_that_nothing_is_sent_to(where: str) -> None:
    with pytest.raises(BadValue):
        web_address(where)


def test_an_address_is_shown_without_what_is_secret_of_it() -> None:
    assert masked("https://hooks.slack.com/services/T0/B0/secret?x=1") == "https://hooks.slack.com/…"
    assert not re.search("secret", masked("https://x.example/?secret"))


@pytest.mark.parametrize("where", ["", "a", "a@b.example\nBcc: c@d.example", "a@b.example, c", "ä@b.example"])
def test_addresses_for_mail_that_are_none(where: str) -> None:
    with pytest.raises(BadValue):
        mail_addresses(where)
