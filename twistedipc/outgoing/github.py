"""
GitHub, and GitHub Enterprise: a commit's status, a deployment with its status, the comment of a pull request, a
release with its tag. Pure; see https://docs.github.com/rest, version 2022-11-28.
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

_DEPLOYMENT: Final[dict[Phase, str]] = {
    Phase.QUEUED: "queued",
    Phase.RUNNING: "in_progress",
    Phase.WAITING: "pending",
    Phase.SUCCEEDED: "success",
    Phase.FAILED: "failure",
    Phase.CANCELLED: "inactive",
    Phase.TIMED_OUT: "failure",
    Phase.LOST: "error",
}


def _api(to: Destination) -> Api:
    return Api(
        to.where,
        {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {to.secret}",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )


def status(to: Destination, told: Told, at: At) -> Exchange:
    """Set the status of the commit. The newest one counts, so telling it twice does no harm."""
    body = {
        "state": _STATUS[told.phase],
        "target_url": at.build,
        "description": text.description(told, at),
        "context": f"twistedipc/{told.project}",
    }
    yield from _api(to).call("POST", f"repos/{to.repository}/statuses/{told.commit}", body)
    return ""


def deployment(to: Destination, told: Told, at: At) -> Exchange:
    """Have one deployment for the attempt, which is found again by its task, and set its status."""
    api, path = _api(to), f"repos/{to.repository}/deployments"
    task = f"twistedipc:{told.project}:{told.build}-{told.attempt}"
    found: Any = yield from api.find(path, lambda entry: entry.get("task") == task, sha=told.commit, task=task)
    if found is None:
        found = yield from api.call(
            "POST",
            path,
            {
                "ref": told.commit,
                "task": task,
                "auto_merge": False,
                "required_contexts": [],
                "environment": told.environment,
                "production_environment": told.environment == "production",
                "description": f"Build {told.build} of {told.project}",
            },
        )
    body = {
        "state": _DEPLOYMENT[told.phase],
        "log_url": at.build,
        "description": text.description(told, at),
        **({"environment_url": at.site} if at.site else {}),
    }
    yield from api.call("POST", f"{path}/{field(found, 'id')}/statuses", body)
    return ""


def comment(to: Destination, told: Told, at: At) -> Exchange:
    """Have one comment at the pull request say how its newest build goes."""
    api, repository = _api(to), f"repos/{to.repository}"
    body = {"body": f"{hidden(to.mark)}\n{text.markdown(told, at)}"}
    found: Any = yield from api.find(f"{repository}/issues/{told.number}/comments", is_marked(to.mark))
    if found is None:
        made: Any = yield from api.call("POST", f"{repository}/issues/{told.number}/comments", body)
        return str(made.get("html_url", "")) if isinstance(made, dict) else ""
    yield from api.call("PATCH", f"{repository}/issues/comments/{field(found, 'id')}", body)
    return str(found.get("html_url", ""))


def tag(to: Destination, told: Told, at: At) -> Exchange:
    """Have a release, which makes its tag. One that is there stays as it is."""
    body = {
        "tag_name": told.tag,
        "target_commitish": told.commit,
        "name": told.tag,
        "body": told.notes,
        "prerelease": "-" in told.tag.rpartition("@")[2].removeprefix("v"),
    }
    try:
        yield from _api(to).call("POST", f"repos/{to.repository}/releases", body)
    except NotTold as error:
        if error.answer.status == 422 and b"already_exists" in error.answer.body:
            return "it was there already"
        raise
    return ""
