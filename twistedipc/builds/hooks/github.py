"""
GitHub's webhooks: ``push``, ``pull_request``, ``delete`` and ``ping``. The names are those of GitHub's documentation
("Webhook events and payloads"). ``builds.hooks``.
"""

from __future__ import annotations

import msgspec

from twistedipc.builds.hooks.events import (
    BRANCHES,
    TAGS,
    HookEvent,
    What,
    changed_by,
    event,
    other,
    pushed,
    says_skip,
)
from twistedipc.builds.hooks.reading import BadPayload, Commit, Repository, decoded, default_branch, message_of

#: How many commits a payload has at most; of a push with more, not all are told.
MAX_COMMITS = 2048

#: actions of ``pull_request`` that bring a commit
_BRINGS = frozenset({"opened", "synchronize", "reopened"})


class _User(msgspec.Struct, frozen=True):
    login: str = ""


class _Push(msgspec.Struct, frozen=True, kw_only=True):
    ref: str
    before: str = ""
    after: str = ""
    created: bool = False
    deleted: bool = False
    forced: bool = False
    compare: str = ""
    commits: list[Commit] | None = None
    head_commit: Commit | None = None
    sender: _User | None = None
    repository: Repository | None = None


class _End(msgspec.Struct, frozen=True):
    ref: str
    sha: str = ""
    repo: Repository | None = None  # null: the fork is gone


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
    before: str = ""
    sender: _User | None = None


class _Delete(msgspec.Struct, frozen=True, kw_only=True):
    ref: str
    ref_type: str
    sender: _User | None = None


def read(name: str, body: bytes) -> HookEvent:
    """
    Return what a message tells. Raises `BadPayload`.

    :param name: of the event, as the header says it
    """
    match name:
        case "ping":
            return event("github", "ping")
        case "push":
            return _push(decoded(body, _Push))
        case "pull_request":
            return _pull_request(decoded(body, _PullRequest))
        case "delete":
            gone = decoded(body, _Delete)
            full = {"branch": BRANCHES, "tag": TAGS}.get(gone.ref_type)
            if full is None:
                return other("github", f"a {gone.ref_type} was deleted")
            return event("github", "gone", ref=full + gone.ref, sender=_login(gone.sender))
        case _:
            return other("github", f"{name} builds nothing")


def _push(push: _Push) -> HookEvent:
    what: What | None = "gone" if push.deleted else pushed(push.ref)
    if what is None:
        return other("github", f"{push.ref} is neither a branch nor a tag")
    head, commits = push.head_commit, push.commits or []
    return event(
        "github",
        what,
        ref=push.ref,
        before=push.before,
        # Of an annotated tag, ``after`` is the tag's own id.
        commit="" if push.deleted else (head.id if head is not None else push.after),
        default_branch=default_branch(push.repository),
        title=message_of(head),
        sender=_login(push.sender),
        url=push.compare,
        skip=says_skip(message_of(head)),
        changed=changed_by(
            [commit.paths for commit in commits],
            complete=not (push.created or push.forced)
            and len(commits) < MAX_COMMITS
            and all(each.knows_paths for each in commits),
        ),
    )


def _pull_request(told: _PullRequest) -> HookEvent:
    pull = told.pull_request
    if told.action not in _BRINGS and told.action != "closed":
        return other("github", f"a pull request that is {told.action} builds nothing")
    if told.number < 1:
        raise BadPayload("the number of a pull request is at least 1")
    home = _home(pull.base)
    return event(
        "github",
        "gone" if told.action == "closed" else "pull_request",
        ref=BRANCHES + pull.head.ref,
        before=told.before,
        commit=pull.head.sha,
        number=told.number,
        base=pull.base.ref,
        fork=home == 0 or _home(pull.head) != home,
        merged=bool(pull.merged),
        title=pull.title,
        sender=_login(told.sender),
        url=pull.html_url,
    )


def _home(end: _End) -> int:
    """Return the number of the repository in which a branch is; 0: it isn't known, or is gone."""
    return 0 if end.repo is None else end.repo.id


def _login(user: _User | None) -> str:
    return "" if user is None else user.login
