"""The API as its callers see it: projects, builds, tokens, sessions, and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update
from twisted.internet.defer import Deferred, gatherResults

from tests.site_client import put_release
from tests.storage_fixtures import add_project
from tests.web_world import Answer, World, connect, eventually, request_bytes
from twistedipc.builds.attempt import Package, Result
from twistedipc.builds.egress import Contact, Egress
from twistedipc.builds.environments import Decided
from twistedipc.builds.gist import Gist
from twistedipc.builds.logs import Progress
from twistedipc.builds.secrets import MAX_SECRETS, MAX_SECRETS_TOGETHER
from twistedipc.publish.archive import create as create_archive
from twistedipc.publish.compared import File, Remark, compared
from twistedipc.publish.stored import Delivered, Job
from twistedipc.publish.targets.registry import TARGETS
from twistedipc.publish.targets.unknown import UnknownSettings
from twistedipc.server.boundaries import Waiting
from twistedipc.storage import artifacts, attempts, logs, permits, projects, publications, releases
from twistedipc.storage.columns import to_json
from twistedipc.storage.errors import LedgerUnavailable
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.rows import Holder
from twistedipc.storage.tables import audit, deliveries
from twistedipc.web.api import builds
from twistedipc.web.http.problems import not_found
from twistedipc.web.page import resource

LICENCE = Remark(level="warning", about="field", name="license", text="license is new")
SCRIPT = Remark(level="danger", about="script", name="postinstall", after="node x", text="postinstall is new")


def _lines(connection: Connection, action: str) -> list[str]:
    """What the audit says of all that was done by this action, or by those that begin so."""
    query = select(audit.c.detail).where(audit.c.action.startswith(action)).order_by(audit.c.id)
    return list(connection.execute(query).scalars())


class Projects(World):
    async def test_life_of_a_project(self) -> None:
        made = await self.project()
        assert made["default_ref"] == "HEAD"
        assert made["release_url"] == "http://shop.localhost:8081/"
        assert made["created"].endswith("Z")
        self.problem(
            await self.ask("POST", "/api/v1/projects", {"name": "shop", "repository": "https://x.example/y"}), 409
        )
        listed = await self.ask("GET", "/api/v1/projects")
        assert [each["name"] for each in listed.json["projects"]] == ["shop"]
        publish = {"npm": True, "registry": "https://npm.example/"}
        changed = await self.ask("PATCH", "/api/v1/projects/shop", {"default_ref": "next", "publish": publish})
        assert changed.status == 200
        assert (changed.json["default_ref"], changed.json["timeout"]) == ("next", 3600.0)
        assert changed.json["publish"] == publish
        shown = await self.ask("GET", "/api/v1/projects/shop")
        assert shown.json == changed.json
        assert (await self.ask("DELETE", "/api/v1/projects/shop")).status == 204
        self.problem(await self.ask("GET", "/api/v1/projects/shop"), 404)

    async def test_how_a_project_is_built(self) -> None:
        settings = {"root": "apps/web", "manager": "pnpm@9"}
        body = {
            "name": "shop",
            "repository": "https://git.example/shop.git",
            "settings": {**settings, "root": "./apps/web/"},
        }
        made = await self.ask("POST", "/api/v1/projects", body)
        assert (made.status, made.json["settings"]) == (201, settings)
        # What is left out stays; what is given is all of them.
        changed = await self.ask("PATCH", "/api/v1/projects/shop", {"default_ref": "next"})
        assert changed.json["settings"] == settings
        changed = await self.ask("PATCH", "/api/v1/projects/shop", {"settings": {"spa": True}})
        assert changed.json["settings"] == {"spa": True}
        assert (await self.ask("GET", "/api/v1/projects/shop")).json["settings"] == {"spa": True}
        for wrong, words in (
            ({"root": "../x"}, "settings.root: it must be a folder inside the repository"),
            ({"manager": "npm@file:../x"}, "settings.manager: it is one of npm, pnpm, yarn, bun"),
            ({"roots": "a"}, "unknown field"),
            ({"spa": "yes"}, "settings.spa"),
        ):
            refused = await self.ask("PATCH", "/api/v1/projects/shop", {"settings": wrong})
            self.problem(refused, 422, words)
            refused = await self.ask("POST", "/api/v1/projects", {**body, "name": "other", "settings": wrong})
            self.problem(refused, 422, words)

    async def test_a_scope_has_a_registry_and_a_token_of_its_own(self) -> None:
        npm = {"type": "npm", "registry": "https://r.example/", "scopes": ["@acme=https://npm.acme.example/"]}
        project = {"name": "shop", "repository": "https://git.example/shop.git", "targets": [npm]}
        made = await self.ask("POST", "/api/v1/projects", project)
        assert made.status == 201
        assert made.json["notices"] == [
            "npm_token@acme, the token of @acme's registry, isn't set yet: twistedipc project secret set shop "
            "npm_token@acme"
        ]
        at = "/api/v1/projects/shop"
        elsewhere = {"value": "s3cret", "registry": "https://r.example/"}
        assert (await self.ask("PUT", f"{at}/secrets/npm_token@acme", elsewhere)).status == 409
        here = {"value": "s3cret", "registry": "https://npm.acme.example/"}
        assert (await self.ask("PUT", f"{at}/secrets/npm_token%40acme", here)).status == 204
        assert (await self.ask("PUT", f"{at}/secrets/npm_token@other", {"value": "s3cret"})).status == 409
        shown = (await self.ask("GET", at)).json
        assert [(each["name"], each["place"], each["set"]) for each in shown["needs"]] == [
            ("npm_token", "https://r.example/", False),
            ("npm_token@acme", "https://npm.acme.example", True),
        ]
        npm["scopes"] = ["@acme=https://evil.example/"]
        changed = await self.ask("PATCH", at, {"targets": [npm]})
        assert changed.json["notices"][0].startswith("the npm_token@acme was for https://npm.acme.example and the")
        npm["scopes"] = ["@acme"]
        refused = await self.ask("PATCH", at, {"targets": [npm]})
        assert (refused.status, "scopes are like @acme=" in refused.json["detail"]) == (422, True)

    async def test_the_targets_are_listed_with_what_can_be_set(self) -> None:
        listed = (await self.ask("GET", "/api/v1/targets")).json["targets"]
        assert [(each["name"], each["default"], each["what"]) for each in listed] == [
            ("static", True, "static release"),
            ("npm", False, "npm package"),
        ]
        static, npm = listed
        of_site, fields = (
            {field["name"]: (field["kind"], field["required"], field["example"]) for field in each["fields"]}
            for each in (static, npm)
        )
        assert of_site == {
            "access": ("text", False, "public|team"),
            "headers": ("list", False, "HEADER"),
            "previews": ("text", False, "public|team|off"),
            "preview_days": ("number", False, "DAYS"),
        }
        assert static["secrets"] == []
        assert fields == {
            "registry": ("text", False, "ADDRESS"),
            "auth": ("text", False, "token|oidc"),
            "audience": ("text", False, "NAME"),
            "scopes": ("list", False, "@SCOPE=ADDRESS"),
            "packages": ("list", False, "NAME"),
            "publish_at": ("text", False, "apiserver|builder"),
            "versions": ("text", False, "changesets"),
            "push": ("switch", False, "true|false"),
            "canary": ("switch", False, "true|false"),
            "author": ("text", False, "'NAME <EMAIL>'"),
            "staging": ("text", False, "always|never"),
        }
        assert npm["secrets"] == [{"name": "npm_token", "help": "the npm registry's token"}]

    async def test_a_target_that_is_not_known_here(self) -> None:
        """It was in the registry once: its project can be read and changed, and says so; no build publishes there."""
        await self.project()
        said = {"type": "s3", "bucket": "b"}
        unknown = UnknownSettings(said=said)
        await self.ledger.write(projects.update, "shop", {"targets": (*TARGETS.default, unknown)}, 5)
        at = "/api/v1/projects/shop"
        shown = await self.ask("GET", at)
        assert (shown.status, shown.json["targets"]) == (200, [{"type": "static"}, said])
        assert [each["name"] for each in (await self.ask("GET", "/api/v1/projects")).json["projects"]] == ["shop"]
        for change in ({"timeout": 60}, {"publish": {"npm": True}}, {"targets": [{"type": "npm"}, said]}):
            changed = await self.ask("PATCH", at, change)
            assert (changed.status, changed.json["targets"][-1]) == (200, said), changed.raw
        self.problem(await self.ask("PATCH", at, {"targets": [{**said, "bucket": "c"}]}), 422, "'s3'")
        self.problem(await self.ask("POST", "/api/v1/projects", {"name": "x", "targets": [said]}), 422)

        refused = await self.ask("POST", f"{at}/builds", {})
        self.problem(refused, 409, "publishes to s3, and this apiserver has no such target")
        assert (await self.ask("POST", f"{at}/builds", {"publish": False})).status == 201
        changed = await self.ask("PATCH", at, {"targets": [{"type": "npm"}]})
        assert [each["type"] for each in changed.json["targets"]] == ["npm"]
        assert (await self.ask("POST", f"{at}/builds", {})).status == 201

    async def test_created_has_its_location(self) -> None:
        answer = await self.ask("POST", "/api/v1/projects", {"name": "a", "repository": "https://git.example/a.git"})
        assert answer.headers["Location"] == "/api/v1/projects/a"

    async def test_a_secret_is_written_and_never_read(self) -> None:
        await self.project()
        path = "/api/v1/projects/shop/secrets/npm_token"
        assert (await self.ask("PUT", path, {"value": "npm_s3cret"})).status == 204
        shown = await self.ask("GET", "/api/v1/projects/shop")
        assert shown.json["secrets"] == ["npm_token"]
        assert b"s3cret" not in shown.raw
        self.problem(await self.ask("GET", path), 405)
        assert (await self.ask("DELETE", path)).status == 204
        self.problem(await self.ask("DELETE", path), 404)
        self.problem(await self.ask("PUT", path, {"value": "two\nlines"}), 422)
        self.problem(await self.ask("PUT", path, {"value": "npm_s3cret", "steps": "install"}), 422)

    async def test_a_secret_of_builds_is_written_and_never_read(self) -> None:
        await self.project()
        path = "/api/v1/projects/shop/secrets/DEPLOY_KEY"
        value = "-----BEGIN KEY-----\ns3cret\n"
        assert (await self.ask("PUT", path, {"value": value})).status == 204
        body = {"value": "s3cret-2", "steps": "install", "builds": "production"}
        assert (await self.ask("PUT", "/api/v1/projects/shop/secrets/NPM_TOKEN", body)).status == 204
        shown = await self.ask("GET", "/api/v1/projects/shop")
        assert shown.json["secrets"] == []
        assert [(each["name"], each["steps"], each["builds"]) for each in shown.json["build_secrets"]] == [
            ("DEPLOY_KEY", "all", "all"),
            ("NPM_TOKEN", "install", "production"),
        ]
        assert b"s3cret" not in shown.raw
        lines = await self.ledger.read(_lines, "secret.")
        assert len(lines) == 2
        assert "s3cret" not in "".join(lines)
        assert (await self.ask("DELETE", path)).status == 204
        self.problem(await self.ask("DELETE", path), 404)

    async def test_secrets_that_can_t_be(self) -> None:
        await self.project()
        for name in ("PATH", "NODE_OPTIONS", "TWISTEDIPC_X", "npm_config_registry"):
            self.problem(await self.ask("PUT", f"/api/v1/projects/shop/secrets/{name}", {"value": "long enough"}), 422)
        for value in ("abc", "a\nb\nc", "****", "abcd\0"):
            part = "without NUL" if "\0" in value else "can't be hidden in a log"
            self.problem(await self.ask("PUT", "/api/v1/projects/shop/secrets/KEY", {"value": value}), 422, part)
        self.problem(await self.ask("PUT", "/api/v1/projects/shop/secrets/a-b", {"value": "long enough"}), 404)
        body = {"value": "long enough", "registry": "https://npm.example/"}
        self.problem(await self.ask("PUT", "/api/v1/projects/shop/secrets/KEY", body), 422)

    async def test_another_repository_makes_secrets_void(self) -> None:
        await self.project()
        await self.ask("PUT", "/api/v1/projects/shop/secrets/KEY", {"value": "long enough"})
        same = await self.ask("PATCH", "/api/v1/projects/shop", {"repository": "https://git.example:443/shop.git/"})
        assert [each["name"] for each in same.json["build_secrets"]] == ["KEY"]
        other = await self.ask("PATCH", "/api/v1/projects/shop", {"repository": "https://git.example/other.git"})
        assert other.json["build_secrets"] == []
        assert "the secret KEY was for builds of" in other.json["notices"][0]
        (line,) = await self.ledger.read(_lines, "secret.void")
        assert '"secret":"KEY"' in line

    async def test_variables_are_changed_one_by_one(self) -> None:
        await self.project(environment={"A": "1", "B": "2"})
        changes = [
            {"name": "A", "value": "of previews", "builds": "previews"},
            {"name": "B", "value": None},
            {"name": "C", "value": "3"},
        ]
        changed = await self.ask("PATCH", "/api/v1/projects/shop", {"variables": changes})
        assert changed.json["environment"] == {"C": "3"}
        assert changed.json["of_contexts"] == {
            "production": {"A": "1"},
            "previews": {"A": "of previews"},
            "environments": {},
        }
        reader = await self.token("reader", "read")
        for path in ("/api/v1/projects/shop", "/api/v1/projects"):
            shown = await self.ask("GET", path, token=reader)
            assert b"of previews" not in shown.raw
            assert b'"A":null' in shown.raw
        lines = await self.ledger.read(_lines, "project.change")
        assert '"environment of previews.A":"set"' in lines[-1]
        assert 'of previews",' not in lines[-1]
        for bad, status in (
            ({"name": "NPM_TOKEN", "value": "x"}, 422),
            ({"name": "A"}, 422),
            ({"name": "A", "value": "x", "builds": "some"}, 409),  # the project has no such environment
        ):
            self.problem(await self.ask("PATCH", "/api/v1/projects/shop", {"variables": [bad]}), status)

    async def test_a_variable_that_looks_like_a_secret_is_warned_of(self) -> None:
        made = await self.project(environment={"API_KEY": "k", "MODE": "x"})
        assert len(made["notices"]) == 1
        assert "API_KEY looks like a secret" in made["notices"][0]
        again = await self.ask("PATCH", "/api/v1/projects/shop", {"variables": [{"name": "MODE", "value": "y"}]})
        assert again.json["notices"] == []
        other = await self.ask("PATCH", "/api/v1/projects/shop", {"variables": [{"name": "DB_PASSWORD", "value": "y"}]})
        assert "DB_PASSWORD looks like a secret" in other.json["notices"][0]

    async def test_a_registry_that_nobody_names_is_warned_of(self) -> None:
        """This apiserver, which is to publish, has no npm that could say one."""
        npm: dict[str, object] = {"type": "npm"}
        made = await self.project(targets=[npm])
        (notice,) = made["notices"]
        assert notice.startswith("the apiserver can't publish the packages of shop: no registry is named")
        for more, notices in (
            ({"canary": True}, [notice]),
            ({"publish_at": "builder"}, []),
            ({"paused": True}, []),
            ({"registry": "https://npm.example/"}, []),
        ):
            changed = await self.ask("PATCH", "/api/v1/projects/shop", {"targets": [npm | more]})
            assert changed.json["notices"] == notices, more

    async def test_registries_of_builds(self) -> None:
        await self.project()
        npm = {"address": "https://npm.example/team/", "secret": "NPM_TOKEN", "scopes": ["@acme"]}
        changed = await self.ask("PATCH", "/api/v1/projects/shop", {"registries": [npm]})
        assert changed.json["registries"] == [npm]
        assert "the token of https://npm.example/team/, NPM_TOKEN, isn't set yet" in changed.json["notices"][0]
        await self.ask("PUT", "/api/v1/projects/shop/secrets/NPM_TOKEN", {"value": "s3cret", "steps": "build"})
        again = await self.ask("PATCH", "/api/v1/projects/shop", {"registries": [npm]})
        assert "isn't given to the step install" in again.json["notices"][0]
        for wrong in (
            [npm, npm],
            [{"address": ""}],
            [{"address": "https://x.example/${HOME}"}],
            [{"address": "ftp://x.example/"}],
            [{"address": "https://x.example/", "scopes": ["acme"]}],
            [{"address": "https://x.example/", "secret": "a-b"}],
            [{"address": "https://x.example/"}, {"address": "https://y.example/"}],
            [npm, {"address": "https://y.example/", "scopes": ["@acme"]}],
            [{"address": "https://x.example/", "token": "x"}],
        ):
            self.problem(await self.ask("PATCH", "/api/v1/projects/shop", {"registries": wrong}), 422)

    async def test_there_is_a_bound_for_secrets(self) -> None:
        await self.project()
        for number in range(2):
            body = {"value": "x" * (MAX_SECRETS_TOGETHER // 2)}
            assert (await self.ask("PUT", f"/api/v1/projects/shop/secrets/A{number}", body)).status == 204
        body = {"value": "xxxx"}
        self.problem(await self.ask("PUT", "/api/v1/projects/shop/secrets/B", body), 409, "characters together")
        for number in range(2):
            await self.ask("PUT", f"/api/v1/projects/shop/secrets/A{number}", {"value": "xxxx"})
        for number in range(2, MAX_SECRETS):
            assert (await self.ask("PUT", f"/api/v1/projects/shop/secrets/A{number}", {"value": "xxxx"})).status == 204
        assert (await self.ask("PUT", "/api/v1/projects/shop/secrets/A0", {"value": "yyyy"})).status == 204
        self.problem(await self.ask("PUT", "/api/v1/projects/shop/secrets/B", {"value": "xxxx"}), 409)

    async def test_a_new_project_is_no_preview_of_another(self) -> None:
        """What is at https://fix--shop.example.org is the branch fix of shop. An older project keeps its name."""
        body = {"name": "fix--shop", "repository": "https://git.example/a.git"}
        answer = await self.ask("POST", "/api/v1/projects", body)
        said = "has no -- in it: fix--shop.example.org could be a preview's address, LABEL--PROJECT. Call it fix-shop"
        self.problem(answer, 422, said)
        await self.ledger.write(add_project, "old--shop")
        assert (await self.ask("GET", "/api/v1/projects/old--shop")).json["name"] == "old--shop"
        assert (await self.ask("PATCH", "/api/v1/projects/old--shop", {"timeout": 60})).status == 200
        assert (await self.ask("DELETE", "/api/v1/projects/old--shop")).status == 204

    async def test_bad_values_are_said_in_the_authors_terms(self) -> None:
        good = {"name": "a", "repository": "https://git.example/a.git"}
        bad: list[dict[str, Any]] = [
            {"name": "A"},
            {"name": "../x"},
            {"name": "a\n"},
            {"name": "a\0"},
            {"name": "fix--shop"},
            {"name": "xn--shop-4qa"},
            {"repository": "--upload-pack=evil"},
            {"repository": "ext::sh -c evil"},
            {"repository": "fd::7"},
            {"repository": "file:///etc"},
            {"repository": "/etc"},
            {"repository": "-oProxyCommand=evil"},
            {"repository": "https://user:password@git.example/a.git"},
            {"default_ref": "-h"},
            {"default_ref": "--output=x"},
            {"default_ref": ".."},
            {"default_ref": "a" * 10240},
            {"environment": {"LD_PRELOAD": "x"}},
            {"environment": {"NODE_OPTIONS": "x"}},
            {"environment": {"GIT_SSH_COMMAND": "x"}},
            {"environment": {"BASH_ENV": "x"}},
            {"environment": {"npm_config_registry": "x"}},
            {"environment": {"A": "\0"}},
            {"timeout": 0},
            {"timeout": "10"},
            {"publish": {"foo": 1}},
            {"publish": {"registry": "ftp://x/"}},
            {"publish": {"registry": "https://user:secret@registry.example/"}},
            {"publish": {"registry": "https://registry.example:99999999/"}},
            {"publish": {"registry": "https://registry.example/\nx"}},
            {"state": "live"},
            {"name": 5},
            {"name": None},
        ]
        for each in bad:
            answer = await self.ask("POST", "/api/v1/projects", {**good, **each})
            self.problem(answer, 422)
            assert answer.json["errors"], each

    async def test_a_field_is_named_by_its_path(self) -> None:
        good = {"name": "a", "repository": "https://x/y"}
        answer = await self.ask("POST", "/api/v1/projects", {**good, "timeout": "x"})
        self.problem(answer, 422, "$.timeout")

        answer = await self.ask("POST", "/api/v1/projects", {**good, "publish": {"static": True, "nmp": True}})
        self.problem(answer, 422, "`nmp` - at `$.publish`")

    async def test_bodies_that_are_no_json(self) -> None:
        json_type = {"Content-Type": "application/json"}
        for body in (
            b"{",
            b'{"name":',
            b"\xef\xbb\xbf{}",
            b'{"name":"\xff"}',
            b'{"name":"\\ud800"}',
            b'{"timeout":NaN}',
            b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b"\0",
        ):
            answer = await self.ask("POST", "/api/v1/projects", body, headers=json_type)
            assert answer.status in (400, 422), (body[:20], answer.raw)
            self.problem(answer, answer.status)
        for body in (b"[]", b'""', b"null", b"1", b'{"timeout":1e999}', b'{"timeout":%b}' % (b"9" * 10_000)):
            self.problem(await self.ask("POST", "/api/v1/projects", body, headers=json_type), 422)

    async def test_local_repositories_only_where_the_operator_allows_them(self) -> None:
        self.problem(
            await self.ask("POST", "/api/v1/projects", {"name": "a", "repository": "/srv/a.git"}),
            422,
            "local_repositories",
        )

    async def test_a_project_with_a_build_under_way_stays(self) -> None:
        await self.project()
        await self.build()
        self.problem(await self.ask("DELETE", "/api/v1/projects/shop"), 409, "cancel it first")


class LocalProjects(World):
    local_repositories = True

    async def test_allowed(self) -> None:
        await self.project(repository="/srv/shop.git")


class Caches(World):
    async def test_what_builds_keep_is_cleared(self) -> None:
        """All builds that are offered afterwards say so, on whatever builder, and whenever it comes back."""
        await self.project()
        at = "/api/v1/projects/shop"
        await self.ask("POST", f"{at}/builds", {})
        before = await self.ledger.read(attempts.next_queued, 1)
        assert ["caches" in offer.needs for offer in before] == [False]
        for times in (1, 2):
            assert (await self.ask("DELETE", f"{at}/caches")).status == 204
            (offer,) = await self.ledger.read(attempts.next_queued, 1)
            assert (offer.caches, "caches" in offer.needs) == (times, True)
        self.problem(await self.ask("DELETE", "/api/v1/projects/none/caches"), 404)
        builder = await self.token("bo", "publish")
        self.problem(await self.ask("DELETE", f"{at}/caches", token=builder), 403)
        lines = (await self.ask("GET", "/api/v1/audit?action=caches.clear")).json["lines"]
        assert [(line["who"], line["project"], line["detail"]) for line in lines] == [
            ("ada", "shop", {"times": "2"}),
            ("ada", "shop", {"times": "1"}),
        ]


class Builds(World):
    async def prepare(self) -> None:
        await self.project()

    async def test_a_build_is_there_when_201_is_said(self) -> None:
        answer = await self.ask("POST", "/api/v1/projects/shop/builds", {"parameters": {"A": "b"}})
        assert answer.status == 201
        assert answer.headers["Location"] == f"/api/v1/builds/{answer.json['id']}"
        assert (answer.json["state"], answer.json["ref"], answer.json["requested_by"]) == ("queued", "HEAD", "ada")
        assert self.rung == 1
        (change,) = self.published
        assert (change.build, change.attempt, change.state) == (answer.json["id"], 1, "queued")
        shown = await self.ask("GET", answer.headers["Location"])
        assert shown.json["parameters"] == {"A": "b"}
        assert (shown.json["position"], shown.json["waiting"]) == (0, None)
        self.dispatch.waiting = Waiting(code="no_builder", text="no builder is linked", position=1)
        shown = await self.ask("GET", f"/api/v1/builds/{shown.json['id']}")
        assert shown.json["waiting"] == {
            "code": "no_builder",
            "text": "no builder is linked",
            "position": 1,
            "until": None,
        }
        assert [each["number"] for each in shown.json["attempts"]] == [1]
        assert shown.json["release_url"] is None

    async def test_no_body_is_the_defaults(self) -> None:
        assert (await self.ask("POST", "/api/v1/projects/shop/builds")).status == 201

    async def test_idempotency(self) -> None:
        async def post(body: Any, key: str = "k1") -> Answer:
            return await self.ask("POST", "/api/v1/projects/shop/builds", body, headers={"Idempotency-Key": key})

        first = await post({"parameters": {"A": "1", "B": "2"}})
        again = await post({"parameters": {"B": "2", "A": "1"}, "publish": True})
        assert (first.status, again.status) == (201, 201)
        assert first.json["id"] == again.json["id"]
        assert again.headers["Idempotent-Replayed"] == "true"
        assert first.headers["Idempotent-Replayed"] is None
        self.problem(await post({"ref": "other"}), 422, "another body")
        assert (await post({}, "k2")).json["id"] != first.json["id"]
        self.problem(await post({}, "k" * 256), 422)
        self.problem(await post({}, "a b"), 422)

    async def test_many_posts_with_one_key_are_one_build(self) -> None:
        def post() -> Deferred[Answer]:
            return Deferred.fromCoroutine(
                self.ask("POST", "/api/v1/projects/shop/builds", {}, headers={"Idempotency-Key": "one"})
            )

        answers = await gatherResults([post() for _ in range(40)])
        assert {answer.status for answer in answers} == {201}
        assert len({answer.json["id"] for answer in answers}) == 1
        assert self.rung == 1

    async def test_list_by_cursor(self) -> None:
        numbers = [await self.build() for _ in range(5)]
        await self.project("other")
        await self.build("other")
        seen: list[int] = []
        query = "project=shop&limit=2"
        while True:
            page = (await self.ask("GET", f"/api/v1/builds?{query}")).json
            seen += [each["id"] for each in page["builds"]]
            if page["next"] is None:
                break
            query = f"project=shop&limit=2&before={page['next']}"
        assert seen == numbers[::-1]
        both = await self.ask("GET", "/api/v1/builds?state=queued&state=failed")
        assert len(both.json["builds"]) == 6
        assert (await self.ask("GET", "/api/v1/builds?state=failed")).json == {"builds": [], "next": None}
        assert (await self.ask("GET", "/api/v1/builds?project=nope")).json["builds"] == []

    async def test_list_by_what_is_asked(self) -> None:
        first, second = await self.build(), await self.build()
        await self.ask("POST", f"/api/v1/builds/{first}/cancel", {})

        async def found(query: str) -> list[int]:
            return [each["id"] for each in (await self.ask("GET", f"/api/v1/builds?{query}")).json["builds"]]

        assert await found("tone=waiting") == [second]
        assert await found("tone=warning&tone=bad") == [first]
        assert await found("tone=waiting&state=cancelled") == []
        assert await found("ended=false") == [second]
        assert await found("ended=true") == [first]
        assert await found("ref=HEAD&ended=true") == [first]
        assert await found("ref=other") == []
        who = (await self.ask("GET", f"/api/v1/builds/{first}")).json["requested_by"]
        assert await found(f"by={who.upper()}") == [second, first]
        assert await found("text=nothing+like+it") == []
        for query in ("tone=fine", "ended=1", "ref=", "text=" + "x" * 201, "waiting=yes"):
            self.problem(await self.ask("GET", f"/api/v1/builds?{query}"), 422)

    async def test_a_list_says_why_builds_wait_if_it_is_asked(self) -> None:
        number = await self.build()
        self.dispatch.waiting = Waiting(code="slots", text="all slots are taken", position=1)
        (build,) = (await self.ask("GET", "/api/v1/builds")).json["builds"]
        assert build["waiting"] is None
        (build,) = (await self.ask("GET", "/api/v1/builds?waiting=true")).json["builds"]
        assert build["waiting"] == (await self.ask("GET", f"/api/v1/builds/{number}")).json["waiting"]
        assert build["waiting"]["text"] == "all slots are taken"

    async def test_a_list_does_not_ask_why_a_build_waits_that_has_ended(self) -> None:
        ended, number = await self.build(), await self.build()
        await self.ask("POST", f"/api/v1/builds/{ended}/cancel", {})
        self.dispatch.waiting = Waiting(code="slots", text="all slots are taken", position=1)
        found = (await self.ask("GET", "/api/v1/builds?waiting=true")).json["builds"]
        assert {each["id"]: each["waiting"] is None for each in found} == {ended: True, number: False}

    async def test_how_all_projects_stand_in_short(self) -> None:
        await self.project("other")
        await self.build()
        number = await self.build()
        other, shop = (await self.ask("GET", "/api/v1/overview")).json["projects"]
        assert (other["name"], other["newest"]) == ("other", None)
        assert (shop["name"], shop["release_url"]) == ("shop", "http://shop.localhost:8081/")
        assert (shop["newest"]["id"], shop["newest"]["tone"], shop["released"]) == (number, "waiting", False)
        (one,) = (await self.ask("GET", "/api/v1/overview?project=shop")).json["projects"]
        assert one == shop
        assert (await self.ask("GET", "/api/v1/overview?project=none")).json["projects"] == []
        self.problem(await self.ask("GET", "/api/v1/overview?projects=shop"), 422)

    async def test_what_a_build_says_is_in_the_list_and_in_its_answer(self) -> None:
        number = await self.build()
        quiet = {"progress": None, "annotations": {"errors": 0, "warnings": 0, "notices": 0}}
        shown = (await self.ask("GET", f"/api/v1/builds/{number}")).json
        assert quiet.items() <= shown.items()
        assert {**quiet, "summary": ""}.items() <= shown["attempts"][0].items()

        def say(connection: Connection) -> None:
            assert attempts.offer(connection, f"{number}-1", "ab" * 16, "b1", 1)
            gist = Gist(progress=Progress(0.25, "12 of\0 48"), summary="**x**", errors=1, warnings=2)
            logs.append(connection, [ChunkItem(attempt=f"{number}-1", first=1, count=4, data=b"", gist=gist)])
            logs.append(connection, [ChunkItem(attempt=f"{number}-1", first=5, count=1, data=b"", gist=Gist(errors=1))])

        await self.ledger.write(say)
        said = {
            "progress": {"value": 0.25, "label": "12 of\ufffd 48"},
            "annotations": {"errors": 2, "warnings": 2, "notices": 0},
        }
        (listed,) = (await self.ask("GET", "/api/v1/builds")).json["builds"]
        assert said.items() <= listed.items()
        assert "summary" not in listed, "a list has no place for it"
        shown = (await self.ask("GET", f"/api/v1/builds/{number}")).json
        assert said.items() <= shown.items()
        assert {**said, "summary": "**x**"}.items() <= shown["attempts"][0].items()

    async def test_bad_queries(self) -> None:
        for query in (
            "limit=0",
            "limit=201",
            "limit=x",
            "limit=",
            "limit=NaN",
            "before=-1",
            "before=0",
            "before=" + "9" * 5000,
            "state=done",
            "project=..",
            "project=%00",
            "limit=1&limit=2",
            "lmit=1",
            "token=abc",
        ):
            self.problem(await self.ask("GET", f"/api/v1/builds?{query}"), 422)
        for query in ("%ff=1", "limit=%ff", "limit", "&".join(f"a{i}=1" for i in range(60))):
            self.problem(await self.ask("GET", f"/api/v1/builds?{query}"), 400)

    async def test_an_end_is_told_when_its_release_is_served(self) -> None:
        build = await self.build()
        for path in (f"/api/v1/builds/{build}", "/api/v1/builds"):
            served: Deferred[None] = Deferred()
            self.releasing.switching[build] = served
            asking = Deferred.fromCoroutine(self.ask("GET", path))
            await self.ask("GET", "/healthz")
            await self.ask("GET", "/api/v1/projects")  # asked later, and answered
            assert not asking.called
            del self.releasing.switching[build]
            served.callback(None)
            assert (await asking).status == 200

    async def test_one_that_never_is_does_not_hold_the_answer_up(self) -> None:
        build = await self.build()
        self.patch(builds, "SWITCH_DEADLINE", 0.05)
        self.releasing.switching[build] = Deferred()
        assert (await self.ask("GET", f"/api/v1/builds/{build}")).status == 200

    async def test_cancel_and_retry(self) -> None:
        number = await self.build()
        self.problem(await self.ask("POST", f"/api/v1/builds/{number}/retry"), 409, "queued")
        cancelled = await self.ask("POST", f"/api/v1/builds/{number}/cancel")
        assert cancelled.status == 202
        assert cancelled.json["state"] == "cancelled"
        assert cancelled.json["attempts"][0]["reason"] == "cancelled by ada"
        self.problem(await self.ask("POST", f"/api/v1/builds/{number}/cancel"), 409)
        retried = await self.ask("POST", f"/api/v1/builds/{number}/retry")
        assert retried.status == 201
        assert (retried.json["attempt"], retried.json["state"]) == (2, "queued")
        assert self.published[-1].attempt == 2

    async def test_releases(self) -> None:
        made = [await self._released() for _ in range(2)]
        listed = (await self.ask("GET", "/api/v1/projects/shop/releases")).json
        assert [each["id"] for each in listed["releases"]] == made[::-1]
        assert listed["disk"] is None
        put_release(self.folder / "releases", "shop", made[0], {"index.html": b"12", "a/index.html": b"12"})
        on_disk = (await self.ask("GET", "/api/v1/projects/shop/releases")).json["disk"]
        assert on_disk == {"releases": 1, "contents": 1, "size": 2}
        assert listed["url"] == "http://shop.localhost:8081/"
        back = await self.ask("POST", f"/api/v1/projects/shop/releases/{made[0]}/activate")
        assert (back.status, back.json["state"]) == (200, "live")
        listed = (await self.ask("GET", "/api/v1/projects/shop/releases")).json
        assert [each["state"] for each in listed["releases"]] == ["rolled_back", "live"]
        self.problem(await self.ask("POST", "/api/v1/projects/shop/releases/999/activate"), 404)
        build = (await self.ask("GET", f"/api/v1/builds/{listed['releases'][0]['build']}")).json
        assert build["attempts"][0]["release"] == made[1]
        assert build["release_url"] == "http://shop.localhost:8081/"

    async def test_releases_come_in_pages_and_what_is_live_is_on_each(self) -> None:
        made = [await self._released() for _ in range(5)]
        await self.ask("POST", f"/api/v1/projects/shop/releases/{made[0]}/activate")
        found: list[int] = []
        at = query = "/api/v1/projects/shop/releases?limit=2"
        while query:
            page = (await self.ask("GET", query)).json
            assert [each["id"] for each in page["live"]] == made[:1]
            found += [each["id"] for each in page["releases"]]
            query = f"{at}&before={page['next']}" if page["next"] else ""
        assert found == made[::-1]
        self.problem(await self.ask("GET", "/api/v1/projects/shop/releases?limit=201"), 422)

    async def test_a_rollback_holds_the_releases(self) -> None:
        made = [await self._released() for _ in range(2)]
        at = "/api/v1/projects/shop/releases"
        assert (await self.ask("GET", at)).json["held"] is None
        await self.ask("POST", f"{at}/{made[0]}/activate")
        waiting = await self._released()
        listed = (await self.ask("GET", at)).json
        assert (listed["held"]["by"], listed["held"]["release"]) == ("ada", made[0])
        assert [each["state"] for each in listed["releases"]] == ["packed", "rolled_back", "live"]
        assert "it waits: ada rolled shop back" in listed["releases"][0]["why"]
        build = (await self.ask("GET", f"/api/v1/builds/{listed['releases'][0]['build']}")).json
        assert build["attempts"][0]["release_state"] == "packed"
        assert "twistedipc release resume shop" in build["attempts"][0]["release_why"]
        assert build["release_url"] is None, "what is served isn't what this build has made"
        reader = await self.token("ron", "read")
        self.problem(await self.ask("POST", f"{at}/resume", token=reader), 403)
        resumed = await self.ask("POST", f"{at}/resume", token=await self.token("bo", "publish"))
        assert (resumed.status, resumed.json["was_held"]) == (200, True)
        assert (resumed.json["release"]["id"], resumed.json["release"]["state"]) == (waiting, "live")
        assert (await self.ask("POST", f"{at}/resume")).json == {
            "was_held": False,
            "release": None,
            "releases": [],
        }

    async def test_versions_are_raised_where_packages_are_published(self) -> None:
        at, asked = "/api/v1/projects/shop", "/api/v1/projects/shop/builds"
        self.problem(
            await self.ask("POST", asked, {"bump": "patch"}), 409, "shop publishes no packages, so there is no"
        )
        await self.ask("PATCH", at, {"targets": [{"type": "npm", "registry": "https://r.example/"}]})
        made = await self.ask("POST", asked, {"bump": "patch"})
        assert (made.status, made.json["bump"]) == (201, "patch")
        self.problem(await self.ask("POST", asked, {"bump": "prerelease:Be.ta"}), 422, "ID has 1 to 32 of a-z")
        self.problem(await self.ask("POST", asked, {"bump": "patch", "publish": False}), 409, "asked not to publish")
        self.problem(await self.ask("POST", asked, {"bump": "patch", "ref": "fix"}), 409, "fix isn't the protected ref")

    async def test_what_canaries_a_build_publishes_is_said(self) -> None:
        at, asked = "/api/v1/projects/shop", "/api/v1/projects/shop/builds"
        npm = {"type": "npm", "registry": "https://r.example/", "canary": True}
        await self.ask("PATCH", at, {"targets": [npm], "default_ref": "main", "protected": ["main"]})
        made = await self.ask("POST", asked, {"ref": "refs/pull/12/head"})
        assert (made.json["canary"], made.json["environment"]) == ("pr-12", "preview")
        for body in ({"ref": "main"}, {"ref": "fix", "publish": False}):
            assert (await self.ask("POST", asked, body)).json["canary"] == ""
        builder = await self.token("bo", "build")
        assert (await self.ask("POST", asked, {"ref": "fix"}, token=builder)).json["canary"] == ""

    async def test_what_is_for_users_comes_from_protected_refs(self) -> None:
        main = await self._released()
        at, asked = "/api/v1/projects/shop/releases", "/api/v1/projects/shop/builds"
        builder, publisher = await self.token("bo", "build"), await self.token("pam", "publish")
        refused = await self.ask("POST", asked, {"ref": "HEAD", "live": True}, token=builder)
        self.problem(refused, 403, "hasn't the scope publish")
        refused = await self.ask("POST", asked, {"ref": "fix", "live": True})
        self.problem(refused, 403, "fix isn't the protected ref (HEAD) of shop")
        branch = await self._released(ref="fix")
        listed = (await self.ask("GET", at)).json["releases"]
        assert [(each["id"], each["state"]) for each in listed] == [(branch, "packed"), (main, "live")]
        assert "it is a preview: it is of fix" in listed[0]["why"]
        self.problem(await self.ask("POST", f"{at}/{branch}/activate", token=builder), 403, "scope publish")
        self.problem(await self.ask("POST", f"{at}/{branch}/activate"), 403, "not on the protected ref (HEAD) of shop")
        changed = await self.ask("PATCH", "/api/v1/projects/shop", {"protected": ["HEAD", "fix", "fix"]})
        assert changed.json["protected"] == ["HEAD", "fix"]
        bad = await self.ask("PATCH", "/api/v1/projects/shop", {"protected": ["a b"]})
        self.problem(bad, 422, "is no pattern of refs")
        assert (await self.ask("POST", f"{at}/{branch}/activate", token=publisher)).status == 200
        hotfix = await self._released(ref="fix", live=True)
        listed = (await self.ask("GET", at)).json["releases"]
        assert (listed[0]["id"], listed[0]["state"]) == (hotfix, "live")
        build = (await self.ask("GET", f"/api/v1/builds/{listed[0]['build']}")).json
        assert build["live"] is True

    async def test_another_person_approves(self) -> None:
        at = "/api/v1/projects/shop"
        npm = [{"type": "static"}, {"type": "npm", "publish_at": "builder"}]
        refused = await self.ask("PATCH", at, {"approval": 1, "targets": npm})
        self.problem(refused, 422, "what a builder publishes can't wait for an approval")
        stored = [{"type": "static"}, {"type": "npm"}]
        assert (await self.ask("PATCH", at, {"approval": 1, "targets": stored})).status == 200
        assert (await self.ask("PATCH", at, {"targets": [{"type": "static"}]})).status == 200
        assert (await self.ask("PATCH", at, {"approval": 1})).json["approval"] == 1
        pam, robot = await self.token("pam", "publish"), await self.token("robot", "publish", service=True)
        one, two = [await self._waits() for _ in range(2)]
        shown = (await self.ask("GET", one)).json
        assert (shown["state"], shown["ended"] is None) == ("waiting_approval", False)
        self.problem(await self.ask("POST", f"{one}/approve"), 403, "another person")
        self.problem(await self.ask("POST", f"{one}/approve", token=robot), 403, "a person approves")
        builder = await self.token("bo", "build")
        self.problem(await self.ask("POST", f"{one}/approve", token=builder), 403, "scope publish")
        changes = (await self.ask("GET", f"{one}/changes", token=builder)).json
        assert (changes["added_count"], changes["log"]["complete"], changes["hosts_said"]) == (1, True, "")
        assert changes["hosts"] == [
            {"host": "evil.example", "port": 443, "step": "build", "refused": "it isn't allowed", "new": None},
            {"host": "r.example", "port": 443, "step": "install", "refused": "", "new": None},
        ]
        approved = await self.ask("POST", f"{one}/approve", token=pam)
        assert (approved.json["state"], approved.json["attempts"][0]["decision"]["by"]) == ("succeeded", "pam")
        self.problem(await self.ask("POST", f"{one}/approve", token=pam), 409, "doesn't wait for an approval")
        refused = await self.ask("POST", f"{two}/refuse", {"reason": " no\x1b[31m\n"}, token=pam)
        assert refused.json["reason"] == "pam refused that it is published: no\ufffd[31m"
        told = await self.ledger.read(_lines, "build.")
        assert [each for each in told if '"reason":"no' in each]

    async def test_what_packages_would_change(self) -> None:
        at = "/api/v1/projects/shop"
        npm = {"type": "npm", "registry": "https://r.example/", "packages": ["p"], "publish_at": "apiserver"}
        assert (await self.ask("PATCH", at, {"approval": 1, "targets": [npm]})).status == 200
        assert (await self.ask("PUT", f"{at}/secrets/npm_token", {"value": "t0ken"})).status == 204
        number = (await self.ask("POST", f"{at}/builds", {})).json["id"]
        self.problem(await self.ask("GET", f"/api/v1/builds/{number}/changes"), 404, "no package of it waits")
        await self.ledger.write(_stores, f"{number}-1", self.time)

        def changes(job: Job) -> Delivered:
            assert job.secrets == {"npm_token": "t0ken"}
            now, before = (
                {"a": File(size=2, sha256="x"), "b": File(size=3, sha256="y")},
                {"a": File(size=1, sha256="z")},
            )
            return Delivered(
                compared=[compared("p", "1.1.0", now, before, published="1.0.0", remarks=[LICENCE, SCRIPT])]
            )

        self.programs.compares = changes
        found = (await self.ask("GET", f"/api/v1/builds/{number}/changes")).json
        assert (found["release"], found["added_count"], found["live"]) == (False, 0, None)
        (package,) = found["packages"]
        assert (package["name"], package["published"], package["size_packed"]) == ("p", "1.0.0", 7)
        assert package["added"] == [{"path": "b", "before": None, "after": 3}]
        assert package["changed"] == [{"path": "a", "before": 1, "after": 2}]
        assert package["notes"] == ["postinstall is new", "license is new"], "what is dangerous comes first"
        assert package["remarks"][0] == {"level": "danger", "about": "script", "name": "postinstall", "before": None,
                                         "after": "node x", "text": "postinstall is new"}  # fmt: skip
        assert (package["publint"], package["publint_why"]) == ("", "the builder is of an older version")
        assert (found["log"]["records"], found["hosts"]) == (0, [])
        assert found["hosts_said"] == "nobody has looked which hosts the build contacted"

    async def test_what_was_built_can_be_downloaded(self) -> None:
        shown_at = await self._waits()
        build, where = shown_at.rpartition("/")[2], f"{shown_at}/files"
        answer = await self.ask("GET", where)
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/gzip")
        assert answer.headers["Content-Disposition"] == f'attachment; filename="shop-{build}.tar.gz"'
        with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
            assert tar.getnames() == ["index.html"]
        assert (await self.ask("GET", shown_at)).json["attempts"][0]["archive"] > 0
        self.problem(await self.ask("GET", f"{where}?attempt=2"), 404, "there is nothing to download of attempt 2")
        other = await self.token("other", "read", projects=["elsewhere"])
        self.problem(await self.ask("GET", where, token=other), 404)
        (kept,) = [path for path in (self.folder / "artifacts").rglob("*") if path.is_file() and path.stat().st_size]
        kept.unlink()
        self.problem(await self.ask("GET", where), 404, "isn't there any more")

    async def _waits(self) -> str:
        """A build that ada has asked for, and that waits to be approved."""
        asked = await self.ask("POST", "/api/v1/projects/shop/builds", {})
        number = asked.json["id"]
        name, lease = f"{number}-1", "ab" * 16
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "index.html").write_text("hello")
        archive = self.folder / f"{name}.tar.gz"
        create_archive(site, archive)
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        kept = self.artifacts.path(sha256)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(archive, kept)

        def end(connection: Any) -> None:
            holder = Holder(lease, "b1")
            assert attempts.offer(
                connection, name, lease, "b1", self.time, Decided(environment="production", preview="")
            )
            assert attempts.accept(connection, name, holder)
            artifacts.begin(connection, name, kept.stat().st_size, sha256, self.time)
            artifacts.mark_complete(connection, name, sha256)
            releases.create(
                connection, attempt=name, target="static", project="shop", sha256=sha256, files=1, size=5,
                commit="c" * 40, now=self.time,
            )  # fmt: skip
            egress = Egress(contacts=[
                Contact(host="r.example", port=443, step="install"),
                Contact(host="evil.example", port=443, step="build", why="it isn't allowed"),
            ])  # fmt: skip
            result = Result(
                outcome="succeeded", lines=0, sha256="", started=1, ended=2, commit="c" * 40, egress=egress
            )  # fmt: skip
            assert attempts.finish(connection, name, holder, result, True, self.time, waits=True)

        await self.ledger.write(end)
        return f"/api/v1/builds/{number}"

    async def test_who_asks_is_told_that_it_is_a_preview(self) -> None:
        asked = "/api/v1/projects/shop/builds"
        builder, publisher = await self.token("bo", "build"), await self.token("pam", "publish")
        for token, body, said in (
            (publisher, {}, ""),
            (builder, {}, "hasn't the scope publish"),
            (publisher, {"ref": "fix"}, "fix isn't the protected ref (HEAD) of shop"),
            (publisher, {"publish": False}, "asked not to publish"),
        ):
            made = await self.ask("POST", asked, body, token=token)
            assert made.status == 201
            assert said in made.json["preview"]
            assert bool(said) == bool(made.json["preview"])

    async def test_a_key_of_before_there_was_live_is_still_the_same_request(self) -> None:
        body = {"ref": "HEAD", "live": False}
        first = await self.ask(
            "POST", "/api/v1/projects/shop/builds", {"ref": "HEAD"}, headers={"Idempotency-Key": "k"}
        )
        again = await self.ask("POST", "/api/v1/projects/shop/builds", body, headers={"Idempotency-Key": "k"})
        assert (again.status, again.json["id"]) == (201, first.json["id"])
        other = await self.ask(
            "POST", "/api/v1/projects/shop/builds", {**body, "live": True}, headers={"Idempotency-Key": "k"}
        )
        self.problem(other, 422)

    async def _released(self, **more: Any) -> int:
        self.time += 1000
        asked = await self.ask("POST", "/api/v1/projects/shop/builds", more)
        assert asked.status == 201
        number = asked.json["id"]
        name, lease = f"{number}-1", "ab" * 16
        await self.ledger.write(attempts.offer, name, lease, "b1", self.time)
        await self.ledger.write(attempts.accept, name, Holder(lease, "b1"))
        result = Result(outcome="succeeded", lines=0, sha256="", started=1, ended=2, commit="c" * 40)
        assert await self.ledger.write(attempts.finish, name, Holder(lease, "b1"), result, True, self.time) is not None

        def create(connection: Any) -> int:
            row = releases.create(
                connection,
                attempt=name,
                target="static",
                project="shop",
                sha256="a" * 64,
                files=1,
                size=1,
                commit="c" * 40,
                now=self.time,
            )
            return releases.settle(connection, "shop", row.id, self.time).id

        return await self.ledger.write(create)


class Tokens(World):
    async def test_create_list_revoke(self) -> None:
        made = await self.ask(
            "POST", "/api/v1/tokens", {"name": "ci", "scopes": ["build"], "projects": ["shop"], "expires_in": 3600}
        )
        assert made.status == 201
        secret, number = made.json["token"], made.json["id"]
        identity = await self.ask("GET", "/api/v1/identity", token=secret)
        assert identity.json.items() >= {"name": "ci", "scopes": ["build"], "projects": ["shop"]}.items()
        listed = await self.ask("GET", "/api/v1/tokens")
        assert [each["name"] for each in listed.json["tokens"]] == ["ada", "ci"]
        assert secret.encode() not in listed.raw
        assert (await self.ask("DELETE", f"/api/v1/tokens/{number}")).status == 204
        self.problem(await self.ask("GET", "/api/v1/identity", token=secret), 401)
        self.problem(await self.ask("DELETE", f"/api/v1/tokens/{number}"), 404)

    async def test_a_token_has_a_name_of_its_own_and_an_end(self) -> None:
        made = await self.ask("POST", "/api/v1/tokens", {"name": "ci", "scopes": ["build"], "service": True})
        day = timedelta(days=1)
        left = datetime.fromisoformat(made.json["expires"]) - datetime.fromisoformat(made.json["created"])
        assert (left, made.json["service"]) == (90 * day, True)
        again = await self.ask("POST", "/api/v1/tokens", {"name": "ci", "scopes": ["read"]})
        self.problem(again, 409, "a token named ci already")
        never = await self.ask("POST", "/api/v1/tokens", {"name": "x", "scopes": ["read"], "expires_in": None})
        assert never.json["expires"] is None
        secret = made.json["token"]
        refused = await self.ask("POST", "/api/v1/sessions", {"token": secret}, token=None, headers=_OWN_ORIGIN)
        self.problem(refused, 403, "is a program's")
        assert "Token-Expires" not in (await self.ask("GET", "/api/v1/identity", token=secret)).headers
        self.time += 80 * 86_400_000
        warned = await self.ask("GET", "/api/v1/identity", token=secret)
        assert warned.headers["Token-Expires"] == made.json["expires"].replace("Z", "+00:00").replace(".000", "")
        self.time += 11 * 86_400_000
        assert (await self.ask("POST", "/api/v1/tokens", {"name": "ci", "scopes": ["read"]})).status == 201

    async def test_bad_tokens_to_make(self) -> None:
        for body in (
            {"name": "", "scopes": ["read"]},
            {"name": "a\nb", "scopes": ["read"]},
            {"name": "a", "scopes": []},
            {"name": "a", "scopes": ["root"]},
            {"name": "a", "scopes": ["read"], "projects": []},
            {"name": "a", "scopes": ["read"], "projects": ["../x"]},
            {"name": "a", "scopes": ["read"], "expires_in": 1},
            {"name": "a", "scopes": ["read"], "token": "tipc_mine"},
        ):
            self.problem(await self.ask("POST", "/api/v1/tokens", body), 422)

    async def test_no_token_makes_more_than_itself(self) -> None:
        bound = await self.token("bound", "admin", ["shop"])
        for allowed in (None, ["other"], ["shop", "other"]):
            body = {"name": "x", "scopes": ["admin"], "projects": allowed}
            self.problem(await self.ask("POST", "/api/v1/tokens", body, token=bound), 403)
        body = {"name": "x", "scopes": ["admin"], "projects": ["shop"]}
        assert (await self.ask("POST", "/api/v1/tokens", body, token=bound)).status == 201
        listed = (await self.ask("GET", "/api/v1/tokens", token=bound)).json["tokens"]
        assert [each["name"] for each in listed] == ["bound", "x"]
        self.problem(await self.ask("DELETE", "/api/v1/tokens/1", token=bound), 404)
        project = {"name": "other", "repository": "https://git.example/x.git"}
        self.problem(await self.ask("POST", "/api/v1/projects", project, token=bound), 403)

    async def test_expired_revoked_malformed(self) -> None:
        expired = await self.token("late", "read", expires=self.time - 1)
        for value in (
            f"Bearer {expired}",
            "Bearer tipc_" + "x" * 43,
            "Bearer x",
            "Bearer",
            "Bearer ",
            f"Basic {self.admin}",
            self.admin,
            "Bearer \xff",
        ):
            answer = await self.ask("GET", "/api/v1/identity", token=None, headers={"Authorization": value})
            self.problem(answer, 401)
            assert answer.headers["WWW-Authenticate"] == "Bearer"

    async def test_a_token_in_the_query_is_not_looked_at(self) -> None:
        for name in ("token", "access_token", "ticket", "authorization"):
            self.problem(await self.ask("GET", f"/api/v1/builds?{name}={self.admin}", token=None), 401)


_OWN_ORIGIN = {"Origin": "http://api.test"}
_UPGRADE = {"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x" * 22 + "=="}


class Sessions(World):
    async def _sign_in(self, token: str) -> str:
        answer = await self.ask("POST", "/api/v1/sessions", {"token": token}, token=None, headers=_OWN_ORIGIN)
        assert answer.status == 204, answer.raw
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Secure" not in cookie
        return cookie.partition(";")[0]

    async def test_in_and_out(self) -> None:
        cookie = await self._sign_in(self.admin)
        assert self.admin not in cookie
        with_cookie = {"Cookie": cookie}
        assert (await self.ask("GET", "/api/v1/identity", token=None, headers=with_cookie)).json["name"] == "ada"
        shown = (await self.ask("GET", "/api/v1/tokens")).json["tokens"]
        assert len(shown) == 1, "a session is not a token that is shown"
        out = await self.ask("DELETE", "/api/v1/sessions", token=None, headers=with_cookie | _OWN_ORIGIN)
        assert out.status == 204
        assert "Max-Age=0" in out.headers["Set-Cookie"]
        self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=with_cookie), 401)
        assert (await self.ask("GET", "/api/v1/identity")).status == 200

    async def test_it_ends_and_ends_with_its_token(self) -> None:
        cookie = {"Cookie": await self._sign_in(self.admin)}
        self.time += 12 * 3600 * 1000 + 1
        self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=cookie), 401)
        short = await self.token("short", "read", expires=self.time + 1000)
        cookie = {"Cookie": await self._sign_in(short)}
        self.time += 1001
        self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=cookie), 401)

    async def test_it_ends_if_nothing_is_asked_for(self) -> None:
        cookie = {"Cookie": await self._sign_in(self.admin)}
        for _ in range(3):
            self.time += 2 * 3_600_000 - 1000
            assert (await self.ask("GET", "/api/v1/identity", token=None, headers=cookie)).status == 200
            await self.ledger.write(lambda _connection: None)  # after the note of that
        self.time += 2 * 3_600_000
        self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=cookie), 401)

    async def test_sessions_are_listed_and_ended(self) -> None:
        bob = await self.token("bob", "read")
        cookies = [{"Cookie": await self._sign_in(token)} for token in (self.admin, bob, bob, bob)]

        async def listed(**how: Any) -> list[tuple[str, bool]]:
            answer = await self.ask("GET", "/api/v1/sessions", **how)
            return [(each["name"], each["current"]) for each in answer.json["sessions"]]

        assert await listed() == [("ada", False), ("bob", False), ("bob", False), ("bob", False)]
        of_bob: dict[str, Any] = {"token": None, "headers": cookies[1]}
        assert await listed(**of_bob) == [("bob", True), ("bob", False), ("bob", False)]
        sessions = (await self.ask("GET", "/api/v1/sessions")).json["sessions"]
        assert sessions[0]["address"] == "127.0.0.1"
        at, mine = "/api/v1/sessions", cookies[1] | _OWN_ORIGIN
        self.problem(await self.ask("DELETE", f"{at}/{sessions[0]['id']}", token=None, headers=mine), 404)
        assert (await self.ask("DELETE", f"{at}/{sessions[2]['id']}", token=None, headers=mine)).status == 204
        self.problem(await self.ask("GET", "/api/v1/identity", token=None, headers=cookies[2]), 401)
        ended = await self.ask("DELETE", f"{at}?all=1", token=bob)
        assert ended.status == 204
        assert "Set-Cookie" not in ended.headers
        assert await listed() == [("ada", False)]
        self.problem(await self.ask("GET", "/api/v1/identity", **of_bob), 401)
        assert (await self.ask("DELETE", f"{at}/{sessions[0]['id']}")).status == 204
        assert await listed() == []

    async def test_what_may_not_sign_in(self) -> None:
        self.problem(await self.ask("POST", "/api/v1/sessions", {"token": "x"}, token=None), 401)
        session = (await self._sign_in(self.admin)).partition("=")[2]
        self.problem(await self.ask("POST", "/api/v1/sessions", {"token": session}, token=None), 401)
        self.problem(
            await self.ask(
                "POST",
                "/api/v1/sessions",
                {"token": self.admin},
                token=None,
                headers={"Origin": "https://evil.example"},
            ),
            403,
        )

    async def test_a_cookie_changes_nothing_without_an_origin_that_may(self) -> None:
        await self.project()
        cookie = {"Cookie": await self._sign_in(self.admin)}
        path = "/api/v1/projects/shop/builds"
        for origin in (None, "null", "https://evil.example", "http://api.test.evil.example", "http://api.test:81", "x"):
            headers = cookie | ({} if origin is None else {"Origin": origin})
            self.problem(await self.ask("POST", path, {}, token=None, headers=headers), 403)
        for origin in ("http://api.test", "https://api.test", "https://console.example"):
            headers = cookie | {"Origin": origin}
            assert (await self.ask("POST", path, {}, token=None, headers=headers)).status == 201
        bearer = await self.ask("POST", path, {}, headers={"Origin": "https://elsewhere.example"})
        assert bearer.status == 201, "no foreign page can send a header with a token"


class WebSockets(World):
    async def prepare(self) -> None:
        await self.project()
        self.number = await self.build()
        self.path = f"/api/v1/builds/{self.number}/log/stream"

    async def _open(self, path: str, **arguments: Any) -> Answer:
        headers = _UPGRADE | arguments.pop("headers", {})
        return await self.ask("GET", path, headers=headers, **arguments)

    async def test_with_a_bearer_token(self) -> None:
        answer = await self._open(f"{self.path}?after=7")
        assert answer.raw.endswith(f"log {self.number} 1 7 ada".encode())
        assert (await self._open("/api/v1/stream")).raw.endswith(b"stream ada")

    async def test_with_a_ticket_once(self) -> None:
        made = await self.ask("POST", "/api/v1/tickets")
        assert made.status == 201
        path = f"/api/v1/stream?ticket={made.json['ticket']}"
        origin = {"Origin": "http://api.test"}
        self.problem(await self._open(path, token=None), 403, "Origin")
        self.problem(await self._open(path, token=None, headers={"Origin": "https://evil.example"}), 403)
        self.problem(await self._open(path, token=None, headers={"Origin": "null"}), 403)
        assert (await self._open(path, token=None, headers=origin)).raw.endswith(b"stream ada")
        self.problem(await self._open(path, token=None, headers=origin), 401, "used before")

    async def test_a_revoked_tokens_ticket_is_void(self) -> None:
        made = (await self.ask("POST", "/api/v1/tokens", {"name": "x", "scopes": ["read"]})).json
        ticket = (await self.ask("POST", "/api/v1/tickets", token=made["token"])).json["ticket"]
        await self.ask("DELETE", f"/api/v1/tokens/{made['id']}")
        origin = {"Origin": "http://api.test"}
        self.problem(await self._open(f"/api/v1/stream?ticket={ticket}", token=None, headers=origin), 401)

    async def test_a_foreign_origin_is_refused_whatever_is_shown(self) -> None:
        self.problem(await self._open(self.path, headers={"Origin": "https://evil.example"}), 403)

    async def test_the_same_answer_for_foreign_and_for_missing(self) -> None:
        stranger = await self.token("s", "read", ["other"])
        foreign = await self._open(self.path, token=stranger)
        missing = await self._open("/api/v1/builds/999999/log/stream", token=stranger)
        self.problem(foreign, 404)
        self.problem(missing, 404)
        assert foreign.json["detail"].replace(str(self.number), "N") == missing.json["detail"].replace("999999", "N")
        self.problem(await self._open(f"{self.path}?attempt=9"), 404)

    async def test_not_an_upgrade(self) -> None:
        for path in (self.path, "/api/v1/stream"):
            answer = await self.ask("GET", path)
            self.problem(answer, 426)
            assert answer.headers["Upgrade"] == "websocket"

    async def test_bad_queries(self) -> None:
        for query in ("after=-1", "after=" + "9" * 40, "after=NaN", "attempt=0", "nonsense=1"):
            self.problem(await self._open(f"{self.path}?{query}"), 422)


class Service(World):
    async def test_health(self) -> None:
        answer = await self.ask("GET", "/healthz", token=None)
        assert answer.status == 200
        assert answer.json == {
            "status": "ok",
            "version": "1.2.3",
            "builders": 2,
            "no_builder_since": None,
            "isolation": ["bubblewrap"],
            "database": "ok",
        }
        self.draining = True
        assert (await self.ask("GET", "/healthz", token=None)).json["status"] == "draining"

    async def test_what_is_asked_while_it_stops_is_to_be_asked_again(self) -> None:
        self.draining = True
        for method, path, body in (
            ("POST", "/api/v1/projects", {"name": "shop", "repository": "https://git.example/shop.git"}),
            ("GET", "/api/v1/builds", None),
            ("GET", "/api/v1/stream", None),
            ("PUT", "/api/v1/uploads/1-1", b"x" * 100_000),
            ("GET", "/", None),
            ("GET", "/nothing", None),
        ):
            answer = await self.ask(method, path, body)
            self.problem(answer, 503, "stopping")
            assert (answer.headers["Retry-After"], answer.headers["Connection"]) == ("2", "close")
        self.draining = False
        self.problem(await self.ask("GET", "/api/v1/projects/shop"), 404)

    async def test_health_without_a_ledger(self) -> None:
        await self.ledger.close()
        answer = await self.ask("GET", "/healthz", token=None)
        assert (answer.status, answer.json["database"]) == (503, "failing")

    async def test_an_unavailable_ledger_is_503(self) -> None:
        await self.ledger.close()
        answer = await self.ask("GET", "/api/v1/builds")
        self.problem(answer, 503)
        assert answer.headers["Retry-After"] == "5"

    async def test_what_goes_wrong_here_has_an_incident(self) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("secret detail")

        self.patch(self.feed, "publish", broken)
        await self.project()
        answer = await self.ask("POST", "/api/v1/projects/shop/builds", {})
        self.problem(answer, 500, answer.headers["X-Request-Id"])
        assert b"secret detail" not in answer.raw
        assert len(self.flushLoggedErrors(RuntimeError)) == 1

    async def test_headers_of_every_answer(self) -> None:
        for answer in (await self.ask("GET", "/api/v1/identity"), await self.ask("GET", "/nothing")):
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert len(answer.headers["X-Request-Id"]) == 16

    async def test_the_page(self) -> None:
        page = await self.ask("GET", "/", token=None)
        assert page.status == 200
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-cache"
        again = await self.ask("GET", "/", token=None, headers={"If-None-Match": page.headers["ETag"]})
        assert (again.status, again.body, again.headers["Content-Length"]) == (304, b"", None)
        head = await self.ask("HEAD", "/static/page.js", token=None)
        assert head.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert head.body == b""
        for path in ("/static/../schemas.py", "/static/%2e%2e/schemas.py", "/static/", "/static/nothing.js"):
            self.problem(await self.ask("GET", path, token=None), 404)
        self.problem(await self.ask("POST", "/", {}, token=None), 405)

    async def test_the_documentation(self) -> None:
        """As it is written, for everybody; a list of it is for programs that read it for people."""
        listed = await self.ask("GET", "/llms.txt", token=None)
        assert (listed.status, listed.headers["Content-Type"]) == (200, "text/plain; charset=utf-8")
        assert listed.body.startswith(b"# twistedipc\n\n> ")
        assert "- [Why a build failed](/docs/failures.md)\n" in listed.body.decode()
        pages = re.findall(r"\]\((/docs/[\w-]+\.md)\)", listed.body.decode())
        assert len(pages) == len(list((Path(__file__).parent.parent / "docs").glob("*.md")))
        page = await self.ask("GET", pages[0], token=None)
        assert page.headers["Content-Type"] == "text/markdown; charset=utf-8"
        assert page.body.decode().startswith("# Why a build failed\n")
        for path in ("/docs/", "/docs/nothing.md", "/docs/../README.md", "/docs/%2e%2e/README.md", "/llms.txt/"):
            self.problem(await self.ask("GET", path, token=None), 404)

    async def test_the_page_without_its_library_says_how_to_get_it(self) -> None:
        self.patch(resource, "LIBRARY", "vendor/nothing.js")
        self.problem(await self.ask("GET", "/", token=None), 503, "python hatch_build.py")

    async def test_a_change_goes_on_when_its_caller_has_gone(self) -> None:
        await self.project()
        held: list[Deferred[Any]] = []
        write = self.ledger.write

        def later(*arguments: Any) -> Deferred[Any]:
            gate: Deferred[Any] = Deferred()
            told: Deferred[Any] = Deferred()
            held.append(gate)
            write(*arguments).addCallback(lambda result: gate.addCallback(lambda _: told.callback(result)))
            return told

        self.patch(self.ledger, "write", later)
        client = await connect(self.port)
        assert client.transport is not None
        headers = {"Authorization": f"Bearer {self.admin}"}
        client.transport.write(request_bytes("POST", "/api/v1/projects/shop/builds", headers, b""))
        await eventually(lambda: bool(held))
        client.transport.loseConnection()
        await client.closed
        stopping = Deferred.fromCoroutine(self.site.stop())
        assert not stopping.called
        for gate in held:
            gate.callback(None)
        await stopping
        assert self.rung == 1

    async def test_a_client_that_hangs_up_is_no_error_whenever_it_does(self) -> None:
        """
        While the ledger is asked who is calling, say: the body was gone with its client, and that was `critical`. (What
        is logged as an error fails a test.)
        """
        await self.project()
        number = await self.build()
        held: list[Deferred[None]] = []
        for name in ("read", "write"):
            self.patch(self.ledger, name, _held(getattr(self.ledger, name), held))
        asked: list[tuple[str, str, dict[str, Any] | None]] = [
            ("POST", "/api/v1/projects/shop/builds", {"ref": "main"}),
            ("POST", "/api/v1/projects/shop/builds", None),
            ("PATCH", "/api/v1/projects/shop", {"timeout": 60.0}),
            ("PUT", "/api/v1/projects/shop/secrets/npm_token", {"value": "s3cret"}),
            ("POST", "/api/v1/tokens", {"name": "ci", "scopes": ["read"]}),
            ("POST", "/api/v1/sessions", {"token": self.admin}),
            ("POST", f"/api/v1/builds/{number}/cancel", None),
            ("POST", "/api/v1/projects/shop/releases/resume", None),
            ("GET", f"/api/v1/builds/{number}", None),
            ("GET", f"/api/v1/builds/{number}/log?follow=1", None),
            ("GET", "/api/v1/builds", None),
        ]
        for method, path, body in asked:
            for moment in range(4):
                await self._hang_up(held, method, path, body, moment)
        assert not held

    async def _hang_up(
        self, held: list[Deferred[None]], method: str, path: str, body: dict[str, Any] | None, moment: int
    ) -> None:
        """Ask, and hang up when the ledger has been asked so often; then let everything go on."""
        client = await connect(self.port)
        assert client.transport is not None
        headers = {"Authorization": f"Bearer {self.admin}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = b"" if body is None else json.dumps(body).encode()
        client.transport.write(request_bytes(method, path, headers, data))
        for _ in range(moment):
            await eventually(lambda: bool(held) or client.closed.called or bool(client.received))
            if held:
                held.pop(0).callback(None)
        client.abort()
        await eventually(lambda: not self.site.connections)
        while held:
            held.pop(0).callback(None)
        stopped = Deferred.fromCoroutine(self.site.stop())  # waits for what goes on

        def idle() -> bool:
            while held:
                held.pop(0).callback(None)
            return stopped.called

        await eventually(idle)

    async def test_ledger_errors_while_authenticating(self) -> None:
        def read(*_: Any) -> Deferred[Any]:
            failed: Deferred[Any] = Deferred()
            failed.errback(LedgerUnavailable("the database is locked"))
            return failed

        self.patch(self.ledger, "read", read)
        self.problem(await self.ask("GET", "/api/v1/identity"), 503, "locked")


def test_problem_omits_what_is_empty() -> None:
    assert "errors" not in json.loads(msgspec.json.encode(not_found().problem))


def _held(ask: Callable[..., Deferred[Any]], held: list[Deferred[None]]) -> Callable[..., Deferred[Any]]:
    """What asks the ledger, once it is let go."""

    def later(*args: Any, **kwargs: Any) -> Deferred[Any]:
        go: Deferred[None] = Deferred()
        held.append(go)
        return go.addCallback(lambda _: ask(*args, **kwargs))

    return later


def _stores(connection: Any, attempt: str, now: int) -> None:
    """The attempt stores a package, and waits for an approval."""
    (queued,) = attempts.next_queued(connection, 10)
    holder = Holder("ab" * 16, "b1")
    assert permits.offer(connection, attempt, holder.lease, "b1", now, queued.targets, queued.repository)
    assert attempts.accept(connection, attempt, holder)
    package = Package(file="p.tgz", name="p", version="1.1.0", integrity="sha512-x")
    connection.execute(update(deliveries).values(package=to_json(package)))
    publications.add(connection, attempt, "npm", [package], now)
    publications.begin_upload(connection, attempt, "npm", 0, 7, now)
    publications.note_stored(connection, attempt, "npm", 0, "a" * 64, now)
    result = Result(outcome="succeeded", lines=0, sha256="", started=1, ended=2, commit="c" * 40)
    assert attempts.finish(connection, attempt, holder, result, True, now, waits=True)
