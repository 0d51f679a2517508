"""Messages of repository hosts, with the fields that their documentation has, and signed as they sign."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import urlencode

#: A project's secret.
SECRET = "whsec_" + base64.b64encode(b"twistedipc hook secret of 32 byte").decode()

A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
ZERO = "0" * 40

Message = tuple[dict[str, str], bytes]


def _commit(sha: str, message: str, **paths: list[str]) -> dict[str, Any]:
    return {
        "id": sha,
        "message": message,
        "timestamp": "2026-11-29T12:00:00+01:00",
        "url": f"https://git.example/acme/shop/commit/{sha}",
        "author": {"name": "Ann", "email": "ann@example.org", "username": "ann"},
        "added": [],
        "removed": [],
        "modified": ["src/app.js"],
        **paths,
    }


# -- GitHub ----------------------------------------------------------------------------------------------------------


def github(name: str, payload: dict[str, Any], delivery: str = "d-1", secret: str = SECRET) -> Message:
    """A message as GitHub sends it, as JSON."""
    return _github(name, json.dumps(payload).encode(), "application/json", delivery, secret)


def github_form(name: str, payload: dict[str, Any], delivery: str = "d-1") -> Message:
    """The same as a form, which is what GitHub offers first."""
    body = urlencode({"payload": json.dumps(payload)}).encode()
    return _github(name, body, "application/x-www-form-urlencoded", delivery, SECRET)


def _github(name: str, body: bytes, content_type: str, delivery: str, secret: str) -> Message:
    return {
        "Content-Type": content_type,
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": name,
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature": "sha1=7d38cdd689735b008b3c702edd92eea23791c5f6",
        "X-Hub-Signature-256": "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex(),
    }, body


def github_push(
    before: str = A, after: str = B, ref: str = "refs/heads/main", message: str = "Fix the cart", **more: Any
) -> dict[str, Any]:
    deleted = after == ZERO
    commits = [] if deleted else [_commit(after, message, **more.pop("paths", {}))]
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "repository": {
            "id": 1296269, "full_name": "acme/shop", "default_branch": "main", "pushed_at": 1764417600,
            "html_url": "https://github.example/acme/shop", "owner": {"login": "acme", "type": "Organization"},
        },
        "pusher": {"name": "ann", "email": "ann@example.org"},
        "sender": {"login": "ann", "id": 21031067, "type": "User"},
        "created": before == ZERO,
        "deleted": deleted,
        "forced": False,
        "base_ref": None,
        "compare": f"https://github.example/acme/shop/compare/{before[:12]}...{after[:12]}",
        "commits": commits,
        "head_commit": commits[0] if commits else None,
        **more,
    }  # fmt: skip


def github_pull(
    action: str = "opened", head: str = B, *, fork: bool = False, number: int = 7, branch: str = "fix", **more: Any
) -> dict[str, Any]:
    home = {"id": 1296269, "full_name": "acme/shop", "default_branch": "main", "fork": False}
    there = {"id": 777, "full_name": "mallory/shop", "default_branch": "main", "fork": True}
    return {
        "action": action,
        "number": number,
        "pull_request": {
            "html_url": f"https://github.example/acme/shop/pull/{number}",
            "number": number,
            "state": "closed" if action == "closed" else "open",
            "title": "Fix the cart",
            "body": None,
            "draft": False,
            "merged": more.pop("merged", False),
            "head": {"label": f"x:{branch}", "ref": branch, "sha": head, "repo": there if fork else home},
            "base": {"label": "acme:main", "ref": "main", "sha": A, "repo": home},
        },
        "repository": home,
        "sender": {"login": "mallory" if fork else "ann", "type": "User"},
        **more,
    }


# -- GitLab ----------------------------------------------------------------------------------------------------------


def gitlab(name: str, payload: dict[str, Any], delivery: str = "d-1", token: str = SECRET) -> Message:
    """A message as GitLab sends it with a secret token."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitLab/17.5.1",
        "Idempotency-Key": delivery,
        "X-Gitlab-Event": name,
        "X-Gitlab-Webhook-UUID": "d96cd136-d798-4abc-b542-07c41d1d9333",
        "X-Gitlab-Event-UUID": "1697b63f-d1eb-4c59-b2c1-e65b12e635c0",
        "X-Gitlab-Token": token,
    }, json.dumps(payload).encode()


def gitlab_signed(name: str, payload: dict[str, Any], now: int, delivery: str = "d-1", secret: str = SECRET) -> Message:
    """The same with a signing token. ``now``: seconds since the epoch."""
    headers, body = gitlab(name, payload, delivery)
    del headers["X-Gitlab-Token"]
    return headers | standard_headers(delivery, now, body, secret), body


def gitlab_push(
    before: str = A, after: str = B, ref: str = "refs/heads/main", message: str = "Fix the cart\n", **more: Any
) -> dict[str, Any]:
    commits = [] if after == ZERO else [_commit(after, message)]
    return {
        "object_kind": "tag_push" if ref.startswith("refs/tags/") else "push",
        "event_name": "push",
        "before": before,
        "after": after,
        "ref": ref,
        "ref_protected": True,
        "checkout_sha": None if after == ZERO else after,
        "message": None,
        "user_id": 4,
        "user_name": "Ann Bo",
        "user_username": "ann",
        "project_id": 15,
        "project": {"id": 15, "name": "shop", "web_url": "https://gitlab.example/acme/shop", "default_branch": "main"},
        "commits": commits,
        "total_commits_count": len(commits),
        "push_options": {},
        **more,
    }


def gitlab_merge(
    action: str = "open", head: str = B, *, source_project: int | None = 15, **more: Any
) -> dict[str, Any]:
    attributes = {
        "id": 99, "iid": 7, "target_branch": "main", "source_branch": "fix", "source_project_id": source_project,
        "target_project_id": 15, "title": "Fix the cart", "state": "opened", "merge_status": "unchecked",
        "url": "https://gitlab.example/acme/shop/-/merge_requests/7", "action": action,
        "last_commit": {"id": head, "message": "Fix the cart", "title": "Fix the cart"}, **more,
    }  # fmt: skip
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": {"id": 1, "name": "Ann Bo", "username": "ann"},
        "project": {"id": 15, "web_url": "https://gitlab.example/acme/shop", "default_branch": "main"},
        "object_attributes": attributes,
        "labels": [],
        "changes": {},
    }


# -- Gitea and Forgejo -----------------------------------------------------------------------------------------------


def gitea(name: str, payload: dict[str, Any], delivery: str = "d-1", *, forgejo: bool = False) -> Message:
    """A message as Gitea, or Forgejo, sends it: with GitHub's headers too."""
    body = json.dumps(payload).encode()
    signature = hmac.digest(SECRET.encode(), body, "sha256").hex()
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}"}
    for host in ("Gitea", "Gogs", "GitHub", *(["Forgejo"] if forgejo else [])):
        headers |= {f"X-{host}-Delivery": delivery, f"X-{host}-Event": name, f"X-{host}-Event-Type": name}
    headers["X-Forgejo-Signature" if forgejo else "X-Gitea-Signature"] = signature
    return headers, body


def gitea_push(before: str = A, after: str = B, ref: str = "refs/heads/main", **more: Any) -> dict[str, Any]:
    commits = [_commit(after, "Fix the cart\n")]
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "compare_url": f"https://git.example/acme/shop/compare/{before}...{after}",
        "commits": commits,
        "total_commits": 1,
        "head_commit": commits[0],
        "repository": {
            "id": 140,
            "full_name": "acme/shop",
            "default_branch": "main",
            "updated_at": "2026-11-29T12:00Z",
        },
        "pusher": {"id": 1, "login": "ann", "username": "ann"},
        "sender": {"id": 1, "login": "ann", "username": "ann"},
        **more,
    }


def gitea_pull(action: str = "opened", head: str = B, *, home: int = 140) -> dict[str, Any]:
    return {
        "action": action,
        "number": 7,
        "pull_request": {
            "number": 7, "title": "Fix the cart", "html_url": "https://git.example/acme/shop/pulls/7", "merged": False,
            "head": {"label": "fix", "ref": "fix", "sha": head, "repo_id": home, "repo": {"id": home}},
            "base": {"label": "main", "ref": "main", "sha": A, "repo_id": 140, "repo": {"id": 140}},
        },
        "repository": {"id": 140, "default_branch": "main"},
        "sender": {"id": 1, "login": "ann", "username": "ann"},
    }  # fmt: skip


# -- programs --------------------------------------------------------------------------------------------------------


def standard_headers(delivery: str, now: int, body: bytes, secret: str = SECRET) -> dict[str, str]:
    """The headers by which the Standard Webhooks sign."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{delivery}.{now}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": delivery,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(signed).decode(),
    }


def plain(payload: dict[str, Any], now: int, delivery: str = "d-1", secret: str = SECRET) -> Message:
    """A program's message. ``now``: seconds since the epoch."""
    body = json.dumps(payload).encode()
    return {"Content-Type": "application/json"} | standard_headers(delivery, now, body, secret), body
