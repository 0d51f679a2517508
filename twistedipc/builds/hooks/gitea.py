"""
Gitea's and Forgejo's webhooks: ``push``, ``pull_request`` and ``delete``. Their payloads look like GitHub's; they
differ in what they leave out. ``builds.hooks``.
"""

from __future__ import annotations

import msgspec

from twistedipc.builds.hooks.events import BRANCHES, TAGS, HookEvent, changed_by, event, other, pushed, says_skip
from twistedipc.builds.hooks.reading import (
    BadPayload,
    Commit,
    Repository,
    decoded,
    default_branch,
    is_complete,
    message_of,
)

#: actions of ``pull_request`` that bring a commit
_BRINGS = frozenset({"opened", "synchronized", "reopened"})


class _User(msgspec.Struct, frozen=True):
    login: str = ""
    username: str = ""


class _Push(msgspec.Struct, frozen=True, kw_only=True):
    ref: str
    before: str = ""
    after: str = ""
    compare_url: str = ""
    commits: list[Commit] | None = None
    total_commits: int = -1  # older ones don't say
    head_commit: Commit | None = None
    sender: _User | None = None
    repository: Repository | None = None


class _End(msgspec.Struct, frozen=True):
    ref: str
    sha: str = ""
    repo_id: int = 0
    repo: Repository | None = None


class _Pull(msgspec.Struct, frozen=True, kw_only=True):
    head: _End
    base: _End
    title: str = ""
    html_url: str = ""
    merged: bool | None = None


class _PullRequest(msgspec.Struct, frozen=True, kw_only=True):
    action: str
    number: int
    pull_request: _Pull
    sender: _User | None = None


class _Delete(msgspec.Struct, frozen=True, kw_only=True):
    ref: str
    ref_type: str
    sender: _User | None = None


def read(name: str, body: bytes) -> HookEvent:
    """Return what a message tells, of the event of this name. Raises `BadPayload`."""
    match name:
        case "push":
            return _push(decoded(body, _Push))
        case "pull_request" | "pull_request_sync":
            return _pull_request(decoded(body, _PullRequest))
        case "delete":
            gone = decoded(body, _Delete)
            full = {"branch": BRANCHES, "tag": TAGS}.get(gone.ref_type)
            if full is None:
                return other("gitea", f"a {gone.ref_type} was deleted")
            return event("gitea", "gone", ref=full + gone.ref, sender=_login(gone.sender))
        case _:
            return other("gitea", f"{name} builds nothing")


def _push(push: _Push) -> HookEvent:
    what = pushed(push.ref)
    if what is None:
        return other("gitea", f"{push.ref} is neither a branch nor a tag")
    if push.after and not push.after.strip("0"):
        what = "gone"
    commits = push.commits or []
    head = push.head_commit or next((each for each in commits if each.id == push.after), None)
    return event(
        "gitea",
        what,
        ref=push.ref,
        before=push.before,
        commit=head.id if head is not None and what != "gone" else push.after,
        default_branch=default_branch(push.repository),
        title=message_of(head),
        sender=_login(push.sender),
        url=push.compare_url,
        skip=says_skip(message_of(head)),
        changed=changed_by(
            [commit.paths for commit in commits],
            # What a push with force takes away isn't told, nor that it was one.
            complete=is_complete(push.before, commits, push.total_commits),
        ),
    )


def _pull_request(told: _PullRequest) -> HookEvent:
    pull = told.pull_request
    if told.action not in _BRINGS and told.action != "closed":
        return other("gitea", f"a pull request that is {told.action} builds nothing")
    if told.number < 1:
        raise BadPayload("the number of a pull request is at least 1")
    return event(
        "gitea",
        "gone" if told.action == "closed" else "pull_request",
        ref=BRANCHES + pull.head.ref,
        commit=pull.head.sha,
        number=told.number,
        base=pull.base.ref,
        fork=_home(pull.head) == 0 or _home(pull.head) != _home(pull.base),
        merged=bool(pull.merged),
        title=pull.title,
        sender=_login(told.sender),
        url=pull.html_url,
    )


def _home(end: _End) -> int:
    """Return the number of the repository in which a branch is; 0: it isn't known, or is gone."""
    return end.repo.id if end.repo is not None else end.repo_id


def _login(user: _User | None) -> str:
    return "" if user is None else user.login or user.username
