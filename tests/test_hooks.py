"""What hosts tell, and what is made of it: payloads, signatures, filters."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.hook_payloads import (
    SECRET,
    ZERO,
    A,
    B,
    C,
    Message,
    gitea,
    gitea_pull,
    gitea_push,
    github,
    github_form,
    github_pull,
    github_push,
    gitlab,
    gitlab_merge,
    gitlab_push,
    gitlab_signed,
    plain,
)
from twistedipc.builds.hooks import kinds, signing
from twistedipc.builds.hooks.deciding import About, Verdict, decide, lane_of
from twistedipc.builds.hooks.events import HookEvent, says_skip
from twistedipc.builds.hooks.reading import BadPayload
from twistedipc.builds.hooks.settings import HookSettings, checked
from twistedipc.builds.names import BadValue

NOW = 1_764_417_600


def looking(message: Message) -> signing.Headers:
    small = {name.lower(): value for name, value in message[0].items()}
    return lambda name: small.get(name, "")


def read(message: Message) -> HookEvent:
    host = kinds.kind_of(looking(message))
    assert host is not None
    return kinds.read(host, looking(message), message[1])


def verified(message: Message, secret: str = SECRET, now: int = NOW) -> bool:
    host = kinds.kind_of(looking(message))
    assert host is not None
    return host.verify(looking(message), message[1], secret, now * 1000)


# -- what is told ----------------------------------------------------------------------------------------------------

PUSHES = [
    ("github", github("push", github_push())),
    ("github", github_form("push", github_push())),
    ("gitlab", gitlab("Push Hook", gitlab_push())),
    ("gitea", gitea("push", gitea_push())),
    ("gitea", gitea("push", gitea_push(), forgejo=True)),
    ("plain", plain({"ref": "main", "before": A, "commit": B, "message": "Fix the cart", "sender": "ann"}, NOW)),
]


@pytest.mark.parametrize(("kind", "message"), PUSHES)
def test_a_push_is_the_same_of_every_host(kind: str, message: Message) -> None:
    told = read(message)
    assert (told.kind, told.what, told.ref, told.before, told.commit) == (kind, "push", "refs/heads/main", A, B)
    assert (told.title, told.sender, told.branch, told.delivery, told.skip) == (
        "Fix the cart", "ann", "main", "d-1", False,
    )  # fmt: skip
    assert told.url.startswith("https://") or kind == "plain"
    assert told.changed == (None if kind == "plain" else ["src/app.js"])
    assert (told.origin.event, told.origin.commit, told.origin.number) == ("push", B, 0)


@pytest.mark.parametrize(
    "message",
    [
        github("pull_request", github_pull()),
        gitlab("Merge Request Hook", gitlab_merge()),
        gitea("pull_request", gitea_pull()),
        github("pull_request", github_pull("synchronize", before=A)),
        gitlab("Merge Request Hook", gitlab_merge("update", oldrev=A)),
        gitea("pull_request_sync", gitea_pull("synchronized")),
        github("pull_request", github_pull("reopened")),
    ],
)
def test_a_pull_request_is_the_same_of_every_host(message: Message) -> None:
    told = read(message)
    assert (told.what, told.ref, told.commit, told.number) == ("pull_request", "refs/heads/fix", B, 7)
    assert (told.base, told.title, told.fork) == ("main", "Fix the cart", False)
    assert told.url.endswith("/7")


@pytest.mark.parametrize(
    "message",
    [
        github("pull_request", github_pull(fork=True)),
        gitlab("Merge Request Hook", gitlab_merge(source_project=99)),
        gitlab("Merge Request Hook", gitlab_merge(source_project=None)),
        gitea("pull_request", gitea_pull(home=99)),
        gitea("pull_request", gitea_pull(home=0)),
    ],
)
def test_a_pull_request_of_another_repository_is_a_strangers(message: Message) -> None:
    assert read(message).fork


def test_repositories_that_nobody_names_are_not_the_same() -> None:
    payload = github_pull()
    for end in ("head", "base"):
        payload["pull_request"][end]["repo"] = {}
    assert read(github("pull_request", payload)).fork


def test_a_fork_that_is_gone_is_a_strangers() -> None:
    payload = github_pull()
    payload["pull_request"]["head"]["repo"] = None
    assert read(github("pull_request", payload)).fork


@pytest.mark.parametrize(
    ("message", "ref"),
    [
        (github("push", github_push(after=ZERO)), "refs/heads/main"),
        (github("delete", {"ref": "fix", "ref_type": "branch", "sender": {"login": "ann"}}), "refs/heads/fix"),
        (gitlab("Push Hook", gitlab_push(after=ZERO)), "refs/heads/main"),
        (gitlab("Tag Push Hook", gitlab_push(after=ZERO, ref="refs/tags/v1")), "refs/tags/v1"),
        (gitea("delete", {"ref": "fix", "ref_type": "branch", "pusher_type": "user"}), "refs/heads/fix"),
        (gitea("push", gitea_push(after=ZERO)), "refs/heads/main"),
        (plain({"ref": "fix", "deleted": True}, NOW), "refs/heads/fix"),
        (github("pull_request", github_pull("closed", merged=True)), "refs/heads/fix"),
        (gitlab("Merge Request Hook", gitlab_merge("merge")), "refs/heads/fix"),
        (gitea("pull_request", gitea_pull("closed")), "refs/heads/fix"),
    ],
)
def test_what_is_gone(message: Message, ref: str) -> None:
    told = read(message)
    assert (told.what, told.ref) == ("gone", ref)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (github("star", {"action": "created"}), "star builds nothing"),
        (github("pull_request", github_pull("labeled")), "labeled builds nothing"),
        (github("push", github_push(ref="refs/notes/x")), "neither a branch nor a tag"),
        (github("delete", {"ref": "x", "ref_type": "wiki"}), "a wiki was deleted"),
        (gitlab("Pipeline Hook", {"object_kind": "pipeline"}), "Pipeline Hook builds nothing"),
        (gitlab("Merge Request Hook", gitlab_merge("update")), "with update builds nothing"),
        (gitlab("Merge Request Hook", gitlab_merge("approved")), "with approved builds nothing"),
        (gitea("issues", {"action": "opened"}), "issues builds nothing"),
        (plain({"ref": "refs/notes/x"}, NOW), "neither a branch nor a tag"),
    ],
)
def test_what_builds_nothing_is_no_error(message: Message, why: str) -> None:
    told = read(message)
    assert told.what == "other"
    assert why in told.why


def test_a_ping() -> None:
    assert read(github("ping", {"zen": "Keep it logically awesome.", "hook_id": 1})).what == "ping"
    assert read(plain({}, NOW)).what == "ping"


def test_an_annotated_tag_is_of_its_commit() -> None:
    payload = github_push(before=ZERO, after=C, ref="refs/tags/v1")
    payload["head_commit"]["id"] = B
    told = read(github("push", payload))
    assert (told.what, told.commit, told.branch) == ("tag", B, "v1")
    payload = gitlab_push(before=ZERO, after=C, ref="refs/tags/v1") | {"checkout_sha": B}
    assert read(gitlab("Tag Push Hook", payload)).commit == B


@pytest.mark.parametrize(
    "message",
    [
        github("push", github_push(created=True)),
        github("push", github_push(forced=True)),
        github("push", github_push(commits=[])),
        gitlab("Push Hook", gitlab_push(total_commits_count=30)),
        gitea("push", gitea_push(total_commits=30)),
        gitea("push", gitea_push(before=ZERO)),
        gitlab("Push Hook", gitlab_push(commits=[{"id": B}])),
    ],
)
def test_paths_are_known_only_if_all_are(message: Message) -> None:
    assert read(message).changed is None


def test_a_push_of_very_many_paths_is_one_of_unknown_paths() -> None:
    payload = github_push(paths={"added": [f"src/{number}.js" for number in range(6000)]})
    assert read(github("push", payload)).changed is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b'{"ref": 7}', b"\xff", b"[" * 100_000, b'{"ref": "refs/heads/x", "commits": {}}'],
)
def test_what_cant_be_read_is_said(payload: bytes) -> None:
    for name, kind in (("push", "X-GitHub-Event"), ("push", "X-Gitea-Event"), ("Push Hook", "X-Gitlab-Event")):
        with pytest.raises(BadPayload, match="can't be read"):
            read(({kind: name}, payload))


def test_a_form_without_a_payload_is_said() -> None:
    form = {"X-GitHub-Event": "push", "Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"a=b", b"\xff", b"", b"&".join([b"a=b"] * 50)):
        with pytest.raises(BadPayload, match="no field payload"):
            read((form, body))


_ANY: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from(sorted({*github_push(), *gitlab_push(), *gitea_push(), *github_pull()})), _ANY))
def test_no_payload_breaks_it(changes: dict[str, Any]) -> None:
    for headers, body in (PUSHES[0][1], PUSHES[2][1], PUSHES[3][1], github("pull_request", github_pull())):
        changed = json.dumps({**json.loads(body), **changes}).encode()
        try:
            told = read((headers, changed))
        except BadPayload:
            continue
        assert len(told.title) <= 200
        assert msgspec.json.decode(msgspec.json.encode(told), type=HookEvent) == told


# -- signatures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message", [message for _, message in PUSHES] + [gitlab_signed("Push Hook", gitlab_push(), NOW)]
)
def test_each_host_is_known_by_its_signature(message: Message) -> None:
    headers, body = message
    assert verified(message)
    assert not verified(message, "another")
    signature = next(name for name in headers if name.lower() in (
        "x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature", "x-gitlab-token", "webhook-signature"
    ) and (name != "X-Hub-Signature-256" or "X-Gitea-Event" not in headers))  # fmt: skip
    for wrong in ("", "sha256=", "ü", headers[signature][:-1], headers[signature] + "0"):
        assert not verified((headers | {signature: wrong}, body))
    if signature != "X-Gitlab-Token":
        assert not verified((headers, body + b" "))


def test_a_wrong_signature_isnt_saved_by_a_right_token() -> None:
    headers, body = gitlab_signed("Push Hook", gitlab_push(), NOW)
    assert not verified((headers | {"X-Gitlab-Token": SECRET, "webhook-signature": "v1,AAAA"}, body))
    headers, body = gitea("push", gitea_push(), forgejo=True)
    assert not verified(
        (headers | {"X-Gitea-Signature": headers["X-Forgejo-Signature"], "X-Forgejo-Signature": "00"}, body)
    )


def test_what_is_signed_with_a_time_is_good_for_some_minutes() -> None:
    message = plain({"ref": "main"}, NOW)
    assert verified(message, now=NOW + 599)
    assert not verified(message, now=NOW + 601)
    assert not verified(message, now=NOW - 601)
    for time in ("", "-1", "1e3", "9" * 30, "¹"):
        assert not verified((message[0] | {"webhook-timestamp": time}, message[1]))


def test_a_sender_that_replaces_its_secret_sends_two_signatures() -> None:
    headers, body = plain({"ref": "main"}, NOW)
    assert verified((headers | {"webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}, body))


def test_a_host_is_told_by_its_headers() -> None:
    assert kinds.kind_of(lambda name: "") is None
    assert kinds.kind_of(looking(({"X-GitHub-Event": "push"}, b""))) is kinds.KINDS[2]


def test_what_has_no_id_has_its_digest() -> None:
    headers, body = github("push", github_push())
    for delivery in ("", "x" * 300, "ü", "a\x00b"):
        told = read((headers | {"X-GitHub-Delivery": delivery}, body))
        assert len(told.delivery) == 64


# -- what is made of it ----------------------------------------------------------------------------------------------


def verdict(event: HookEvent, **about: Any) -> Verdict:
    settings = HookSettings(**{k: about.pop(k) for k in list(about) if k in HookSettings.__struct_fields__})
    known: dict[str, Any] = {"default_ref": "main", "head": "main", "protected": ["main"], "watch": []}
    return decide(event, About(settings=settings, **{**known, **about}))


def push(ref: str = "refs/heads/main", **more: Any) -> HookEvent:
    what: Any = "tag" if ref.startswith("refs/tags/") else "push"
    return HookEvent(kind="github", what=what, ref=ref, before=A, commit=B, **more)


@pytest.mark.parametrize(
    ("ref", "asked"),
    [
        ("refs/heads/main", "main"),
        ("refs/heads/feature/größe#1", "feature/größe#1"),
        ("refs/heads/tags/v1", "refs/heads/tags/v1"),
        ("refs/heads/heads/x", "refs/heads/heads/x"),
        ("refs/heads/HEAD", "refs/heads/HEAD"),
        ("refs/heads/" + "a" * 40, "refs/heads/" + "a" * 40),
    ],
)
def test_a_branch_is_asked_for_so_that_nothing_else_is_meant(ref: str, asked: str) -> None:
    assert verdict(push(ref)) == Verdict(do="build", ref=asked)


def test_the_default_branch_is_head_until_it_is_known() -> None:
    event = push(default_branch="main")
    assert verdict(event, default_ref="HEAD", head="").ref == "HEAD"
    assert verdict(event, default_ref="HEAD", head="main").ref == "main"
    assert verdict(push(default_branch="trunk"), default_ref="HEAD", head="").ref == "main"


@pytest.mark.parametrize("ref", ["refs/heads/a b", "refs/heads/-x", "refs/heads/a..b", "refs/heads/x\u0000"])
def test_a_name_that_git_doesnt_have_builds_nothing(ref: str) -> None:
    assert verdict(push(ref)).do == "nothing"


def test_branches_and_tags_that_build() -> None:
    assert verdict(push("refs/heads/fix"), branches=["main", "release/*"]).why.startswith(
        "fix isn't among the branches"
    )
    assert verdict(push("refs/heads/release/2"), branches=["main", "release/*"]).do == "build"
    assert verdict(push("refs/tags/v1")).do == "nothing"
    assert verdict(push("refs/tags/v1"), protected=["main", "tags/v*"]) == Verdict(do="build", ref="refs/tags/v1")
    assert verdict(push("refs/tags/v1"), tags=["v*"]).do == "build"
    assert verdict(push("refs/tags/x"), tags=["tags/v*"]).do == "nothing"
    for bad in (HookSettings(branches=["a b"]), HookSettings(tags=["refs/heads/x"])):
        with pytest.raises(BadValue):
            checked(bad)


@pytest.mark.parametrize(
    ("message", "skip"),
    [
        ("Fix [skip ci]", True), ("[ci skip] x", True), ("x\n\n[CI-Skip]", True), ("[no ci]", True),
        ("[skip actions]", True), ("[skip twistedipc]", True), ("x\n\nskip-checks: true", True),
        ("skip ci", False), ("[skip] ci", False), ("Say why [skip ci ] isn't meant", False),
        ("x" * 5000 + "[skip ci]", False),
    ],
)  # fmt: skip
def test_a_commit_can_say_that_it_isnt_to_be_built(message: str, skip: bool) -> None:
    assert says_skip(message) is skip
    assert read(github("push", github_push(message=message))).skip is skip


def test_only_what_is_watched_builds() -> None:
    watch = ["apps/shop", "!**/*.md"]
    assert verdict(push(changed=["apps/blog/x.js"]), watch=watch).why.startswith("it changes nothing that the project")
    assert verdict(push(changed=["apps/shop/README.md"]), watch=watch).do == "nothing"
    assert verdict(push(changed=["apps/blog/x.js", "apps/shop/x.js"]), watch=watch).do == "build"
    assert verdict(push(changed=None), watch=watch).do == "build"


def test_a_strangers_pull_request_waits() -> None:
    event = read(github("pull_request", github_pull(fork=True)))
    assert (verdict(event).do, verdict(event).ref, lane_of(event)) == ("wait", "refs/pull/7/head", "refs/pull/7/head")
    event = read(gitlab("Merge Request Hook", gitlab_merge(source_project=3)))
    assert verdict(event).ref == "refs/merge-requests/7/head"
    assert verdict(event, pull_requests=False).do == "nothing"


def test_a_strangers_pull_request_without_a_commit_can_not_be_allowed() -> None:
    """It is for one commit that a member says yes: of none, whatever its ref led to later would be built."""
    payload = github_pull(fork=True)
    payload["pull_request"]["head"]["sha"] = ""
    found = verdict(read(github("pull_request", payload)))
    assert (found.do, found.why) == ("nothing", "it comes from a fork, and doesn't say which commit it brings")


def test_a_pull_request_of_the_repository_builds_its_branch() -> None:
    event = read(github("pull_request", github_pull()))
    assert (verdict(event), lane_of(event)) == (Verdict(do="build", ref="fix"), "refs/heads/fix")
    assert verdict(event, branches=["main"]).do == "nothing"
