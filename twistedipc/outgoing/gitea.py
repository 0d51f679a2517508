"""
Gitea and Forgejo: a commit's status, the comment of a pull request, a release with its tag. Pure; see
https://docs.gitea.com/api/. They have no deployments.
"""

from __future__ import annotations

from typing import Any, Final

from twistedipc.builds.states import Phase
from twistedipc.outgoing import text
from twistedipc.outgoing.exchange import Exchange, NotTold
from twistedipc.outgoing.rest import Api, field, hidden, is_marked
from twistedipc.outgoing.told import At, Destination, Told

_STATUS: Final[dict[Phase, str]] = {
    Phase.QUEUED: "pending",
    Phase.RUNNING: "pending",
    Phase.WAITING: "pending",
    Phase.SUCCEEDED: "success",
    Phase.FAILED: "failure",
    Phase.CANCELLED: "error",
    Phase.TIMED_OUT: "failure",
    Phase.LOST: "error",
}


def _api(to: Destination) -> Api:
    return Api(f"{to.where}/repos/{to.repository}", {"Authorization": f"token {to.secret}"})


def status(to: Destination, told: Told, at: At) -> Exchange:
    """Set the status of the commit. The newest one counts, so telling it twice does no harm."""
    body = {
        "state": _STATUS[told.phase],
        "target_url": at.build,
        "description": text.description(told, at),
        "context": f"twistedipc/{told.project}",
    }
    yield from _api(to).call("POST", f"statuses/{told.commit}", body)
    return ""


def comment(to: Destination, told: Told, at: At) -> Exchange:
    """Have one comment at the pull request say how its newest build goes."""
    api = _api(to)
    body = {"body": f"{hidden(to.mark)}\n{text.markdown(told, at)}"}
    found: Any = yield from api.find(f"issues/{told.number}/comments", is_marked(to.mark), "limit")
    if found is None:
        yield from api.call("POST", f"issues/{told.number}/comments", body)
    else:
        yield from api.call("PATCH", f"issues/comments/{field(found, 'id')}", body)
    return ""


def tag(to: Destination, told: Told, at: At) -> Exchange:
    """Have a release, which makes its tag. One that is there stays as it is."""
    body = {"tag_name": told.tag, "target_commitish": told.commit, "name": told.tag, "body": told.notes}
    try:
        yield from _api(to).call("POST", "releases", body)
    except NotTold as error:
        if error.answer.status == 409:
            return "it was there already"
        raise
    return ""
