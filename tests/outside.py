"""
Services outside the platform, in memory: the hosts of repositories, each with what its documentation says of the parts
that are asked here, and any other service. ``integration`` has them behind a port.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import msgspec
from twisted.internet.defer import Deferred

from twistedipc.outgoing.exchange import Answer, Exchange, Request

TOKEN = "token-of-shop"


class Service(Protocol):
    """Something that answers."""

    def answer(self, request: Request) -> Answer: ...


def json(status: int, body: object, **headers: str) -> Answer:
    """An answer in JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers={"content-type": "application/json", **named}, body=msgspec.json.encode(body))


class Asked(msgspec.Struct, frozen=True):
    """A request, taken apart."""

    method: str
    path: str  # below the API
    query: dict[str, str]
    body: Any


class RepositoryHost:
    """The base of the three, with one repository. ``faults``: answers that come first, one a request."""

    repository = "team/shop"
    base = ""
    header = ""
    scheme = ""

    def __init__(self, commits: Sequence[str] = ()) -> None:
        self.commits = set(commits)
        self.statuses: list[tuple[str, str]] = []  # (commit, state), in the order in which they came
        self.descriptions: list[tuple[str, str]] = []  # likewise, what was said to each
        self.comments: list[dict[str, Any]] = []
        self.deployments: list[dict[str, Any]] = []
        self.releases: dict[str, dict[str, Any]] = {}
        self.faults: list[Answer] = []
        self.asked: list[Request] = []
        self._next = 1000

    def answer(self, request: Request) -> Answer:
        """See `Service`."""
        self.asked.append(request)
        if self.faults:
            return self.faults.pop(0)
        if request.headers.get(self.header) != f"{self.scheme}{TOKEN}":
            return json(401, {"message": "Bad credentials"})
        parts = urlsplit(request.url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        body = msgspec.json.decode(request.body) if request.body else None
        base = urlsplit(self.base).path
        asked = Asked(request.method, parts.path.removeprefix(base).lstrip("/"), query, body)
        for method, pattern, does in self.routes():
            found = re.fullmatch(pattern, asked.path)
            if method == asked.method and found:
                return does(asked, *found.groups())
        return json(404, {"message": "Not Found"})

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        """Method, path, and what answers."""
        raise NotImplementedError

    def number(self) -> int:
        """A new id."""
        self._next += 1
        return self._next

    def states_of(self, commit: str) -> list[str]:
        """The states that a commit was given, in their order, each once where one came several times in a row."""
        states = [state for each, state in self.statuses if each == commit]
        return [state for index, state in enumerate(states) if index == 0 or states[index - 1] != state]

    def _comment(self, asked: Asked) -> Answer:
        made = {"id": self.number(), "body": asked.body["body"], "html_url": "https://git.example/c"}
        self.comments.append(made)
        return json(201, made)

    def _change_comment(self, asked: Asked, number: str) -> Answer:
        for each in self.comments:
            if each["id"] == int(number):
                each["body"] = asked.body["body"]
                return json(200, each)
        return json(404, {"message": "Not Found"})


class GitHub(RepositoryHost):
    """api.github.com, of the repository team/shop."""

    base = "https://api.github.com"
    header = "Authorization"
    scheme = "Bearer "

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        r = f"repos/{self.repository}"
        return [
            ("POST", rf"{r}/statuses/([0-9a-f]+)", self._status),
            ("GET", rf"{r}/deployments", self._list_deployments),
            ("POST", rf"{r}/deployments", self._deploy),
            ("POST", rf"{r}/deployments/([0-9]+)/statuses", self._deployment_status),
            ("GET", rf"{r}/issues/[78]/comments", lambda asked: self._page(asked, self.comments)),
            ("POST", rf"{r}/issues/[78]/comments", self._comment),
            ("PATCH", rf"{r}/issues/comments/([0-9]+)", self._change_comment),
            ("POST", rf"{r}/releases", self._release),
        ]

    def _page(self, asked: Asked, entries: list[dict[str, Any]]) -> Answer:
        size, page = int(asked.query.get("per_page", "30")), int(asked.query.get("page", "1"))
        shown = entries[(page - 1) * size : page * size]
        if page * size < len(entries):
            return json(200, shown, link=f'<https://elsewhere.example/?page={page + 1}>; rel="next"')
        return json(200, shown)

    def _status(self, asked: Asked, commit: str) -> Answer:
        body = asked.body
        assert body["state"] in ("error", "failure", "pending", "success")
        assert len(body["description"]) <= 140, "GitHub refuses longer ones"
        if commit not in self.commits:
            return json(422, {"message": f"No commit found for SHA: {commit}"})
        self.statuses.append((commit, body["state"]))
        return json(201, {"id": self.number(), **body})

    def _list_deployments(self, asked: Asked) -> Answer:
        wanted = [
            each
            for each in self.deployments
            if all(each.get(name) == asked.query[name] for name in ("sha", "task") if name in asked.query)
        ]
        return self._page(asked, wanted)

    def _deploy(self, asked: Asked) -> Answer:
        body = asked.body
        if body.get("required_contexts") != []:
            return json(409, {"message": "Conflict: Commit status checks failed for main."})
        made = {"id": self.number(), "sha": body["ref"], "task": body["task"], "states": [],
                "environment": body["environment"]}  # fmt: skip
        self.deployments.append(made)
        return json(201, made)

    def _deployment_status(self, asked: Asked, number: str) -> Answer:
        states = ("error", "failure", "inactive", "in_progress", "queued", "pending", "success")
        assert asked.body["state"] in states
        for each in self.deployments:
            if each["id"] == int(number):
                each["states"].append(asked.body["state"])
                each["url"] = asked.body.get("environment_url", "")
                return json(201, {})
        return json(404, {"message": "Not Found"})

    def _release(self, asked: Asked) -> Answer:
        tag = asked.body["tag_name"]
        if tag in self.releases:
            return json(
                422,
                {"message": "Validation Failed", "errors": [{"resource": "Release", "code": "already_exists"}]},
            )
        self.releases[tag] = asked.body
        return json(201, {"id": self.number()})


class GitLab(RepositoryHost):
    """A GitLab at git.example, of the project team/shop, whose branch main has all commits."""

    base = "https://git.example/api/v4"
    header = "PRIVATE-TOKEN"

    def __init__(self, commits: Sequence[str] = ()) -> None:
        super().__init__(commits)
        self.environments: list[dict[str, Any]] = []
        self.branches = {"main": self.commits}
        self.jobs: list[list[str]] = []  # commit, ref, name, state

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        r = f"projects/{self.repository.replace('/', '%2F')}"
        return [
            ("POST", rf"{r}/statuses/([0-9a-f]+)", self._status),
            ("GET", rf"{r}/deployments", self._list_deployments),
            ("POST", rf"{r}/deployments", self._deploy),
            ("PUT", rf"{r}/deployments/([0-9]+)", self._change_deployment),
            ("GET", rf"{r}/environments", lambda asked: self._page(asked, self.environments)),
            ("PUT", rf"{r}/environments/([0-9]+)", self._change_environment),
            ("GET", rf"{r}/merge_requests/7/notes", lambda asked: self._page(asked, self.comments)),
            ("POST", rf"{r}/merge_requests/7/notes", self._comment),
            ("PUT", rf"{r}/merge_requests/7/notes/([0-9]+)", self._change_comment),
            ("POST", rf"{r}/releases", self._release),
        ]

    def _page(self, asked: Asked, entries: list[dict[str, Any]]) -> Answer:
        size, page = int(asked.query.get("per_page", "20")), int(asked.query.get("page", "1"))
        following = str(page + 1) if page * size < len(entries) else ""
        return json(200, entries[(page - 1) * size : page * size], x_next_page=following)

    def _status(self, asked: Asked, commit: str) -> Answer:
        """
        A status is a job of a pipeline: the one of this name and ref that waits or runs takes a step, and where there
        is none another begins. Without a ref it is the first branch that has the commit.
        """
        state, name = asked.body["state"], asked.body["name"]
        ref = asked.body.get("ref") or next((each for each, has in sorted(self.branches.items()) if commit in has), "")
        if commit not in self.commits:
            return json(404, {"message": "404 Commit Not Found"})
        if not ref:
            return json(404, {"message": "404 References for commit Not Found"})
        open_jobs = [job for job in self.jobs if job[:3] == [commit, ref, name] and job[3] in ("pending", "running")]
        job = open_jobs[0] if open_jobs else [commit, ref, name, "created"]
        now, event = job[3], {"pending": "enqueue", "running": "run", "failed": "drop", "canceled": "cancel"}
        if state == now or (now, state) == ("running", "pending"):
            said = f"Cannot transition status via :{event.get(state, state)} from :{now} (Reason(s): …)"
            return json(400, {"message": said})
        job[3] = state
        if not open_jobs:
            self.jobs.append(job)
        self.statuses.append((commit, state))
        return json(201, {"id": self.number(), "ref": ref, "name": name, "status": state})

    def _list_deployments(self, asked: Asked) -> Answer:
        assert asked.query["order_by"] == "id"
        assert asked.query["sort"] == "desc"
        mine = [each for each in self.deployments if each["environment"] == asked.query["environment"]]
        return self._page(asked, mine[::-1])

    def _deploy(self, asked: Asked) -> Answer:
        made = {"id": self.number(), "history": [asked.body["status"]], **asked.body}
        self.deployments.append(made)
        if not any(each["name"] == made["environment"] for each in self.environments):
            self.environments.append({"id": self.number(), "name": made["environment"], "external_url": None})
        return json(201, made)

    def _change_deployment(self, asked: Asked, number: str) -> Answer:
        for each in self.deployments:
            if each["id"] == int(number):
                each["status"] = asked.body["status"]
                each["history"].append(asked.body["status"])
                return json(200, each)
        return json(404, {"message": "404 Not found"})

    def _change_environment(self, asked: Asked, number: str) -> Answer:
        for each in self.environments:
            if each["id"] == int(number):
                each.update(asked.body)
                return json(200, each)
        return json(404, {"message": "404 Not found"})

    def _release(self, asked: Asked) -> Answer:
        tag = asked.body["tag_name"]
        if tag in self.releases:
            return json(409, {"message": "Release already exists"})
        self.releases[tag] = asked.body
        return json(201, {})


class Gitea(RepositoryHost):
    """A Gitea at git.example, of the repository team/shop. Its comments come all at once, whatever page is wanted."""

    base = "https://git.example/api/v1"
    header = "Authorization"
    scheme = "token "

    def routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        r = f"repos/{self.repository}"
        return [
            ("POST", rf"{r}/statuses/([0-9a-f]+)", self._status),
            ("GET", rf"{r}/issues/7/comments", lambda asked: json(200, self.comments)),
            ("POST", rf"{r}/issues/7/comments", self._comment),
            ("PATCH", rf"{r}/issues/comments/([0-9]+)", self._change_comment),
            ("POST", rf"{r}/releases", self._release),
        ]

    def _status(self, asked: Asked, commit: str) -> Answer:
        assert asked.body["state"] in ("pending", "success", "error", "failure", "warning")
        if commit not in self.commits:
            return json(404, {"message": "object does not exist"})
        self.statuses.append((commit, asked.body["state"]))
        self.descriptions.append((commit, asked.body["description"]))
        return json(201, {"id": self.number()})

    def _release(self, asked: Asked) -> Answer:
        tag = asked.body["tag_name"]
        if tag in self.releases:
            return json(409, {"message": "Release is has no Tag"})
        self.releases[tag] = asked.body
        return json(201, {})


class Anybody:
    """A service that takes everything, unless it is given ``faults`` first."""

    def __init__(self) -> None:
        self.faults: list[Answer] = []
        self.asked: list[Request] = []

    def answer(self, request: Request) -> Answer:
        """See `Service`."""
        self.asked.append(request)
        return self.faults.pop(0) if self.faults else Answer(status=200, body=b"ok")

    @property
    def bodies(self) -> list[Any]:
        """What it was told, decoded."""
        return [msgspec.json.decode(each.body) for each in self.asked]


class Outsiders:
    """All services, by the beginning of their address. See `server.boundaries.Requests`."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.held: list[Deferred[None]] | None = None  # a list: requests wait in it before they are answered
        self.mute = False  # they come to the service, and its answer never comes back

    async def send(self, request: Request) -> Answer:
        """See `Requests`."""
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            await waiting
        for base, service in self.services.items():
            if request.url.startswith(base):
                answer = service.answer(request)
                if self.mute:
                    await Deferred()
                return answer
        return Answer(problem=f"{urlsplit(request.url).netloc} has no address here")


class Letters:
    """Takes mail. See `server.boundaries.MailSending`."""

    def __init__(self) -> None:
        self.sender = "ci@builds.example"
        self.sent: list[tuple[list[str], bytes]] = []

    async def send(self, to: Sequence[str], message: bytes) -> Answer:
        """See `MailSending`."""
        self.sent.append((list(to), message))
        return Answer(status=200)


def hold(service: Service, exchange: Exchange, most: int = 1000) -> str:
    """Hold an exchange with a service, and return its note. ``most``: after so many answers it is killed."""
    request = next(exchange)
    for _ in range(most):
        try:
            request = exchange.send(service.answer(request))
        except StopIteration as end:
            return str(end.value)
    exchange.close()
    raise Killed


class Killed(Exception):
    """The exchange wasn't held to its end."""
