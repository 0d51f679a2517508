"""
GitLab: a commit's status, a deployment of an environment, the note of a merge request, a release with its tag. Pure;
see https://docs.gitlab.com/api/, version 4.
"""

from __future__ import annotations

import re
from typing import Any, Final

from twistedipc.builds.names import HEAD
from twistedipc.builds.states import Phase
from twistedipc.outgoing import text
from twistedipc.outgoing.exchange import Exchange, NotTold
from twistedipc.outgoing.rest import Api, field, hidden, is_marked
from twistedipc.outgoing.told import At, Destination, Told

_STATUS: Final[dict[Phase, str]] = {
    Phase.QUEUED: "pending",
    Phase.RUNNING: "running",
    Phase.WAITING: "running",
    Phase.SUCCEEDED: "success",
    Phase.FAILED: "failed",
    Phase.CANCELLED: "canceled",
    Phase.TIMED_OUT: "failed",
    Phase.LOST: "failed",
}

_GOING_ON: Final = frozenset({"pending", "running"})


def _api(to: Destination) -> Api:
    return Api(f"{to.where}/projects/{to.repository}", {"PRIVATE-TOKEN": to.secret})


def _short(ref: str) -> str:
    """Return a branch's or a tag's name as GitLab has it; "" for what is neither, or isn't known to be."""
    name = ref.removeprefix("refs/")
    if name.startswith(("heads/", "tags/")):
        return name.partition("/")[2]
    named = ref != HEAD and not ref.startswith("refs/") and not re.fullmatch("[0-9a-f]{7,64}", ref)
    return ref if named else ""


def status(to: Destination, told: Told, at: At) -> Exchange:
    """
    Set the status of the commit. While it goes on, GitLab takes no step back, and none to where it is: then what it has
    counts as told. Behind an end another status of the same name begins.
    """
    ref = _short(told.ref)
    body = {
        "state": _STATUS[told.phase],
        "name": f"twistedipc/{told.project}",
        "target_url": at.build,
        "description": text.description(told, at),
        # Else GitLab takes some branch that has the commit, whose merge request then shows it.
        **({"ref": ref} if ref else {}),
    }
    try:
        yield from _api(to).call("POST", f"statuses/{told.commit}", body)
    except NotTold as error:
        refused = error.answer.status == 400 and b"Cannot transition status" in error.answer.body
        if refused and _STATUS[told.phase] in _GOING_ON:
            return "it had this state already, or a later one"
        raise
    return ""


def deployment(to: Destination, told: Told, at: At) -> Exchange:
    """Have a deployment of the commit to its environment, which ends as the build does."""
    api = _api(to)
    wanted = {"success": "success", "failed": "failed", "canceled": "canceled"}.get(_STATUS[told.phase], "running")
    going_on: Any = yield from api.find(
        "deployments",
        lambda entry: entry.get("sha") == told.commit and entry.get("status") in ("created", "running", wanted),
        environment=told.environment,
        order_by="id",
        sort="desc",
    )
    if going_on is None:
        tagged = told.ref.startswith(("refs/tags/", "tags/"))
        ref = _short(told.ref) or told.ref
        body = {"environment": told.environment, "sha": told.commit, "ref": ref, "tag": tagged, "status": wanted}
        yield from api.call("POST", "deployments", body)
    elif going_on.get("status") != wanted:
        yield from api.call("PUT", f"deployments/{field(going_on, 'id')}", {"status": wanted})
    if at.site and at.live and wanted == "success":
        named: Any = yield from api.find(
            "environments", lambda entry: entry.get("name") == told.environment, name=told.environment
        )
        if named is not None and named.get("external_url") != at.site:
            yield from api.call("PUT", f"environments/{field(named, 'id')}", {"external_url": at.site})
    return ""


def comment(to: Destination, told: Told, at: At) -> Exchange:
    """Have one note at the merge request say how its newest build goes."""
    api, path = _api(to), f"merge_requests/{told.number}/notes"
    body = {"body": f"{hidden(to.mark)}\n{text.markdown(told, at)}"}
    found: Any = yield from api.find(path, is_marked(to.mark), order_by="created_at", sort="asc")
    if found is None:
        yield from api.call("POST", path, body)
    else:
        yield from api.call("PUT", f"{path}/{field(found, 'id')}", body)
    return ""


def tag(to: Destination, told: Told, at: At) -> Exchange:
    """Have a release, which makes its tag. One that is there stays as it is."""
    body = {"tag_name": told.tag, "ref": told.commit, "name": told.tag, "description": told.notes or told.tag}
    try:
        yield from _api(to).call("POST", "releases", body)
    except NotTold as error:
        if error.answer.status == 409:
            return "it was there already"
        raise
    return ""
