"""
GitLab's webhooks: ``Push Hook``, ``Tag Push Hook`` and ``Merge Request Hook``, as its documentation has them ("Webhook
events"). A merge request is called a pull request here. ``builds.hooks``.
"""

from __future__ import annotations

import msgspec

from twistedipc.builds.hooks.events import BRANCHES, HookEvent, What, changed_by, event, other, pushed, says_skip
from twistedipc.builds.hooks.reading import (
    BadPayload,
    Commit,
    Repository,
    decoded,
    default_branch,
    is_complete,
    message_of,
)

#: what ends a merge request
_ENDS = frozenset({"close", "merge"})


class _Push(msgspec.Struct, frozen=True, kw_only=True):
    object_kind: str
    ref: str
    before: str = ""
    after: str = ""
    checkout_sha: str | None = None  # of an annotated tag, the commit's; null: the ref is gone
    user_username: str | None = None
    user_name: str | None = None
    commits: list[Commit] | None = None
    total_commits_count: int = -1
    project: Repository | None = None


class _LastCommit(msgspec.Struct, frozen=True):
    id: str = ""
    message: str | None = None


class _Attributes(msgspec.Struct, frozen=True, kw_only=True):
    iid: int
    action: str | None = None
    oldrev: str | None = None  # of an update: there only if it brings commits
    source_branch: str = ""
    target_branch: str = ""
    source_project_id: int | None = None  # null: the fork is gone
    target_project_id: int = 0
    title: str = ""
    url: str = ""
    last_commit: _LastCommit | None = None


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _MergeRequest(msgspec.Struct, frozen=True, kw_only=True):
    object_attributes: _Attributes
    user: _User | None = None


def read(name: str, body: bytes) -> HookEvent:
    """Return what a message tells, of the event of this name. Raises `BadPayload`."""
    match name:
        case "Push Hook" | "Tag Push Hook":
            return _push(decoded(body, _Push))
        case "Merge Request Hook":
            return _merge_request(decoded(body, _MergeRequest))
        case _:
            return other("gitlab", f"{name} builds nothing")


def _push(push: _Push) -> HookEvent:
    what: What | None = pushed(push.ref)
    if what is None:
        return other("gitlab", f"{push.ref} is neither a branch nor a tag")
    if not push.after.strip("0"):
        what = "gone"
    commits = push.commits or []
    commit = push.checkout_sha or push.after
    head = next((each for each in commits if each.id == commit), None)
    address = push.project.web_url if push.project is not None else ""
    return event(
        "gitlab",
        what,
        ref=push.ref,
        before=push.before,
        commit=commit,
        default_branch=default_branch(push.project),
        title=message_of(head),
        sender=push.user_username or push.user_name or "",
        url=f"{address}/-/commit/{commit}" if address and what != "gone" else address,
        skip=says_skip(message_of(head)),
        changed=changed_by(
            [each.paths for each in commits],
            # GitLab tells 20 commits at most. What a push with force takes away isn't told, nor that it was one.
            complete=is_complete(push.before, commits, push.total_commits_count),
        ),
    )


def _merge_request(told: _MergeRequest) -> HookEvent:
    about = told.object_attributes
    action = about.action or ""
    brings = action in ("open", "reopen") or (action == "update" and about.oldrev is not None)
    if not brings and action not in _ENDS:
        return other("gitlab", f"a merge request with {action or 'no action'} builds nothing")
    if about.iid < 1:
        raise BadPayload("the number of a merge request is at least 1")
    last = about.last_commit
    return event(
        "gitlab",
        "gone" if action in _ENDS else "pull_request",
        ref=BRANCHES + about.source_branch,
        before=about.oldrev or "",
        commit=last.id if last is not None else "",
        number=about.iid,
        base=about.target_branch,
        fork=about.source_project_id is None or about.source_project_id != about.target_project_id,
        merged=action == "merge",
        title=about.title,
        sender="" if told.user is None else told.user.username,
        url=about.url,
        skip=last is not None and says_skip(last.message or ""),
    )
