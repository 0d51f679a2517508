"""Hooks by HTTP: who is let in, what is answered, and what people see and say of messages."""

from __future__ import annotations

import hmac
import json
from typing import Any

from tests.hook_payloads import (
    ZERO,
    B,
    C,
    Message,
    gitea,
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
from tests.web_world import Answer, World
from twistedipc.web.api.hooks import MAX_MESSAGE


class Hooks(World):
    api_url = "https://ci.example"

    async def prepare(self) -> None:
        await self.project("shop")
        await self.project("blog")
        made = await self.ask("POST", "/api/v1/projects/shop/hook/secret")
        assert made.status == 201, made.raw
        assert made.json["url"] == "https://ci.example/hooks/shop"
        self.secret: str = made.json["secret"]

    async def tell(self, message: Message, project: str = "shop") -> Answer:
        headers, body = message
        return await self.ask("POST", f"/hooks/{project}", body, headers=headers, token=None)

    async def messages(self) -> list[Any]:
        answer = await self.ask("GET", "/api/v1/projects/shop/hook/messages")
        assert answer.status == 200, answer.raw
        found: list[Any] = answer.json["messages"]
        return found

    async def test_a_push_is_a_build_when_it_is_answered(self) -> None:
        answer = await self.tell(github("push", github_push(), secret=self.secret))
        assert answer.status == 202, answer.raw
        number = answer.json["build"]
        assert answer.json == {"message": 1, "outcome": "built", "reason": "built", "build": number}
        build = (await self.ask("GET", f"/api/v1/builds/{number}")).json
        assert (build["ref"], build["state"], build["requested_by"]) == ("HEAD", "queued", "ann at GitHub")
        assert build["origin"] == {
            "kind": "github", "event": "push", "delivery": "d-1", "number": 0, "commit": B, "branch": "main",
            "base": "", "title": "Fix the cart", "sender": "ann", "fork": False,
            "url": "https://github.example/acme/shop/compare/aaaaaaaaaaaa...bbbbbbbbbbbb",
        }  # fmt: skip
        (message,) = await self.messages()
        assert (message["host"], message["about"], message["outcome"]) == ("GitHub", "push to main by ann", "built")
        again = await self.tell(github("push", github_push(), secret=self.secret))
        assert (again.status, again.json["build"]) == (200, number)
        audit = (await self.ask("GET", "/api/v1/audit")).json["lines"]
        asked = next(line for line in audit if line["action"] == "build.request")
        assert (asked["who"], asked["kind"], asked["detail"]["build"]) == ("ann at GitHub", "hook", str(number))

    async def test_each_kind_of_host_is_let_in(self) -> None:
        now = self.now() // 1000
        payloads: list[Message] = [
            github("push", github_push(after=B), "1", self.secret),
            gitlab("Push Hook", gitlab_push(before=B, after=C), "2", self.secret),
            gitlab_signed("Push Hook", gitlab_push(before=C, after=B), now, "3", self.secret),
            plain({"ref": "main", "before": B, "commit": C}, now, "4", self.secret),
        ]
        for message in payloads:
            answer = await self.tell(message)
            assert (answer.status, answer.json["outcome"]) == (202, "built"), answer.raw

    async def test_a_wrong_signature_tells_nothing(self) -> None:
        told = [
            await self.tell(github("push", github_push(), secret="wrong")),
            await self.tell(gitea("push", gitea_push())),
            await self.tell(gitlab("Push Hook", gitlab_push(), token="")),
            await self.tell(github("push", {"zen": 1}, secret="wrong")),
            await self.tell(github("push", github_push(), secret=self.secret), "blog"),  # which has no secret
            await self.tell(github("push", github_push(), secret=self.secret), "nothing"),
        ]
        for answer in told:
            self.problem(answer, 401, "the signature isn't right, or there is no such hook")
        assert len({answer.body for answer in told}) == 1
        assert await self.messages() == []

    async def test_what_isnt_of_a_host_is_said(self) -> None:
        self.problem(await self.tell(({"Content-Type": "application/json"}, b"{}")), 400, "which kind of host")
        self.problem(await self.tell(github("push", {"ref": 7}, secret=self.secret)), 422, "can't be read")
        large = b'{"a": "' + b"x" * MAX_MESSAGE + b'"}'
        self.problem(await self.tell((github("push", {})[0], large)), 413, f"at most {MAX_MESSAGE} bytes")
        assert await self.messages() == []

    async def test_a_message_of_some_megabytes_is_taken(self) -> None:
        payload = github_push(padding="x" * (3 << 20))
        assert (await self.tell(github("push", payload, secret=self.secret))).status == 202

    async def test_what_builds_nothing_is_answered_and_listed(self) -> None:
        ping = await self.tell(github("ping", {"zen": "x"}, "1", self.secret))
        assert (ping.status, ping.json["reason"]) == (200, "ignored: it arrives: nothing else was wanted")
        star = await self.tell(github("star", {"action": "created"}, "2", self.secret))
        assert (star.status, star.json["outcome"], star.json["build"]) == (200, "ignored", None)
        gone = await self.tell(github("push", github_push(after=ZERO, ref="refs/heads/fix"), "3", self.secret))
        assert (gone.status, gone.json["outcome"]) == (200, "gone")
        assert [each["about"] for each in await self.messages()] == [
            "fix was deleted by ann", "star builds nothing", "ping",
        ]  # fmt: skip

    async def test_a_strangers_pull_request_waits_for_a_person(self) -> None:
        waits = await self.tell(github("pull_request", github_pull(fork=True), secret=self.secret))
        assert (waits.status, waits.json["outcome"]) == (202, "waits")
        (message,) = await self.messages()
        assert message["about"] == "pull request 7 from a fork by mallory"
        allow = f"/api/v1/projects/shop/hook/messages/{message['id']}/allow"
        reader = await self.token("reader", "read")
        self.problem(await self.ask("POST", allow, token=reader), 403)
        program = await self.ask("POST", "/api/v1/tokens", {"name": "ci", "scopes": ["build"], "service": True})
        self.problem(await self.ask("POST", allow, token=program.json["token"]), 403, "a person allows")
        allowed = await self.ask("POST", allow)
        assert allowed.status == 200, allowed.raw
        build = (await self.ask("GET", f"/api/v1/builds/{allowed.json['build']}")).json
        assert (build["ref"], build["commit"], build["origin"]["fork"]) == ("refs/pull/7/head", B, True)
        self.problem(await self.ask("POST", allow), 409, "doesn't wait")

    async def test_a_message_is_done_again_for_a_person(self) -> None:
        await self.tell(gitlab("Merge Request Hook", gitlab_merge(), token=self.secret))
        (message,) = await self.messages()
        again = await self.ask("POST", f"/api/v1/projects/shop/hook/messages/{message['id']}/repeat")
        assert again.json["build"] > message["build"]
        assert again.json["decided_by"] == "ada"
        self.problem(await self.ask("POST", "/api/v1/projects/shop/hook/messages/99/repeat"), 404, "no message 99")

    async def test_settings_and_secret(self) -> None:
        hook = "/api/v1/projects/shop/hook"
        shown = (await self.ask("GET", hook)).json
        assert shown["url"] == "https://ci.example/hooks/shop"
        assert self.secret not in json.dumps(shown)
        assert (await self.ask("GET", "/api/v1/projects/blog/hook")).json["secret"] is None
        changed = await self.ask("PUT", hook, {"branches": ["main", "main"], "previews": "queue"})
        assert changed.json["settings"] == {"branches": ["main"], "previews": "queue"}
        self.problem(await self.ask("PUT", hook, {"branches": ["a b"]}), 422, "no pattern of refs")
        self.problem(await self.ask("PUT", hook, {"previews": "all"}), 422)
        before = self.secret
        self.secret = (await self.ask("POST", f"{hook}/secret")).json["secret"]
        self.problem(await self.tell(github("push", github_push(), secret=before)), 401)
        assert (await self.tell(github_form_of("push", github_push(), self.secret))).status == 202
        assert (await self.ask("DELETE", f"{hook}/secret")).status == 204
        self.problem(await self.tell(github("push", github_push(), "2", self.secret)), 401)
        assert (await self.ask("GET", hook)).json["settings"]["branches"] == ["main"]


def github_form_of(name: str, payload: dict[str, Any], secret: str) -> Message:
    """A message as GitHub sends it as a form, signed with this secret."""
    headers, body = github_form(name, payload)
    return headers | {"X-Hub-Signature-256": "sha256=" + hmac.digest(secret.encode(), body, "sha256").hex()}, body
