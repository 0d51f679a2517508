"""Environments: of which one a build is, what it is given, and what becomes of what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from tests.cli_server import Server, as_json, serving
from tests.storage_fixtures import HOLDER, LEASE, NOW, add_build, add_project, database
from tests.test_cli_commands import PROJECT, run
from tests.web_world import World
from twistedipc.builds import environments, hosts, protection
from twistedipc.builds.environments import PREVIEW, PRODUCTION, Decided, Environment, decide
from twistedipc.builds.names import BadValue
from twistedipc.builds.secrets import Builds
from twistedipc.storage import attempts, build_secrets, projects, releases
from twistedipc.storage.errors import NotPossible, NotProtected
from twistedipc.storage.rows import OfferRow

STAGING = Environment(name="staging", refs=["staging", "release/**"])
QA = Environment(name="qa", refs=["release/*", "tags/rc-*"], approval=1)


def of(ref: str, **how: Any) -> Decided:
    about: dict[str, Any] = {
        "project": "shop",
        "default_ref": "main",
        "patterns": ["main"],
        "head": "",
        "environments": [STAGING, QA],
        "publish": True,
        "may_publish": True,
        "live": False,
        "delivers": False,
    }
    return decide(ref=ref, **{**about, **how})


# -- the decision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "how", "environment"),
    [
        ("main", {}, PRODUCTION),
        ("refs/heads/main", {}, PRODUCTION),
        ("refs/tags/main", {}, PREVIEW),
        ("main", {"may_publish": False}, PREVIEW),
        ("main", {"publish": False}, PREVIEW),
        ("staging", {}, "staging"),
        ("refs/heads/staging", {}, "staging"),
        ("refs/tags/staging", {}, PREVIEW),
        ("staging", {"may_publish": False}, PREVIEW),
        ("staging", {"publish": False}, PREVIEW),
        ("staging", {"live": True}, "staging"),
        ("release/1", {}, "staging"),
        ("release/1", {"environments": [QA, STAGING]}, "qa"),
        ("release/1/2", {"environments": [QA, STAGING]}, "staging"),
        ("tags/rc-1", {}, "qa"),
        ("rc-1", {}, "qa"),
        ("heads/rc-1", {}, PREVIEW),
        ("dev", {}, PREVIEW),
        ("a" * 40, {}, PREVIEW),
        # What is protected and published, or asked to be, is production, whatever the patterns of an environment say.
        ("staging", {"patterns": ["main", "staging"]}, "staging"),
        ("staging", {"patterns": ["main", "staging"], "live": True}, PRODUCTION),
        ("staging", {"patterns": ["main", "staging"], "delivers": True}, PRODUCTION),
        ("main", {"environments": [Environment(name="all-of-it", refs=["**"])]}, PRODUCTION),
        ("dev", {"environments": [Environment(name="all-of-it", refs=["**"])]}, "all-of-it"),
        # HEAD is what it stands for, as far as that is known.
        ("HEAD", {"default_ref": "HEAD", "patterns": ["HEAD"]}, PRODUCTION),
        ("HEAD", {}, PREVIEW),
        ("HEAD", {"head": "staging"}, "staging"),
        ("HEAD", {"environments": [Environment(name="x", refs=["HEAD"])]}, "x"),
    ],
)
def test_of_which_environment_a_build_is(ref: str, how: dict[str, Any], environment: str) -> None:
    decided = of(ref, **how)
    assert decided.environment == environment
    assert bool(decided.refs) is (environment not in (PRODUCTION, PREVIEW)), "what leads there must be proven"


_names = st.sampled_from(["main", "staging", "release/1", "release/1/2", "v1", "dev"])
_refs = st.one_of(_names, _names.map("refs/heads/{}".format), _names.map("tags/{}".format), st.just("HEAD"))
_patterns = st.lists(
    st.sampled_from(["main", "staging", "release/*", "release/**", "tags/v*", "**", "HEAD", "refs/**"]),
    min_size=1,
    max_size=3,
)
_environments = st.lists(
    st.builds(Environment, name=st.sampled_from(["staging", "qa", "prod"]), refs=_patterns), max_size=3
)
_how = st.fixed_dictionaries(
    {
        "default_ref": st.sampled_from(["main", "HEAD", "release/1"]),
        "patterns": _patterns,
        "head": st.sampled_from(["", "main", "staging"]),
        "environments": _environments,
        "publish": st.booleans(),
        "may_publish": st.booleans(),
        "live": st.booleans(),
        "delivers": st.booleans(),
    }
)


@given(_refs, _how)
def test_the_decision(ref: str, how: dict[str, Any]) -> None:
    decided = of(ref, **how)
    # Protected refs hold, and no pattern of an environment makes production, nor keeps anything from being it.
    alone = of(ref, **{**how, "environments": []})
    assert decided.is_production == alone.is_production
    assert decided.preview == alone.preview
    if decided.is_production:
        assert not decided.preview
        assert how["publish"]
        assert how["may_publish"]
        assert protection.may_be_protected(how["patterns"], ref, how["head"])
        return
    # The first one that fits; none for those who may not publish.
    fits = [each for each in how["environments"] if environments.leads_to(each.refs, ref, how["head"])]
    allowed = how["publish"] and how["may_publish"]
    assert decided.environment == (fits[0].name if fits and allowed else PREVIEW)
    assert decided.refs == (fits[0].refs if fits and allowed else [])


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ([Environment(name="production", refs=["x"])], "can't be an environment's name"),
        ([Environment(name="previews", refs=["x"])], "can't be an environment's name"),
        ([Environment(name="all", refs=["x"])], "can't be an environment's name"),
        ([Environment(name="A", refs=["x"])], "can't be an environment's name"),
        ([Environment(name="a-", refs=["x"])], "can't be an environment's name"),
        ([Environment(name="a", refs=[])], "has no refs"),
        ([Environment(name="a", refs=["a b"])], "is no pattern of refs"),
        ([STAGING, STAGING], "the same name"),
        ([Environment(name=f"a{number}", refs=["x"]) for number in range(21)], "at most 20"),
    ],
)
def test_what_is_no_environment(wrong: list[Environment], why: str) -> None:
    with pytest.raises(BadValue, match=why):
        environments.check(wrong)


def test_what_other_hosts_call_it() -> None:
    def said(environment: str) -> tuple[str, str]:
        found = hosts.variables(commit="c", ref="x", url="", environment=environment)
        return found["CONTEXT"], found["VERCEL_TARGET_ENV"]

    assert said(PRODUCTION) == ("production", "production")
    assert said(PREVIEW) == ("deploy-preview", "preview")
    assert said("staging") == ("branch-deploy", "staging")


# -- the ledger ------------------------------------------------------------------------------------------------------


def project(connection: Connection) -> None:
    add_project(connection)
    projects.update(connection, "shop", {"environments": [STAGING, QA]}, NOW)


def put(connection: Connection, name: str, value: bytes, builds: Builds) -> None:
    projects.set_build_secret(connection, "shop", name, value, characters=1, steps="all", builds=builds, now=NOW)


def offered(connection: Connection, ref: str) -> OfferRow:
    add_build(connection, ref=ref)
    (queued,) = attempts.next_queued(connection, 10)
    assert attempts.offer(connection, queued.name, LEASE, "one", NOW, queued.of)
    assert attempts.accept(connection, queued.name, HOLDER)
    return queued


def given_to(connection: Connection, ref: str) -> dict[str, bytes]:
    queued = offered(connection, ref)
    answer = build_secrets.give(connection, queued.name, LEASE, "one", queued.repository, [], NOW)
    assert not answer.refused
    return {each.name: each.sealed for each in answer.secrets}


def test_each_environment_has_secrets_and_variables_of_its_own(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        project(connection)
        for value, builds in ((b"a", "all"), (b"p", "production"), (b"s", "staging"), (b"v", "previews")):
            put(connection, "KEY", value, builds)
        put(connection, "ONLY", b"q", "qa")
        put(connection, "EACH", b"e", "all")
        row = projects.get(connection, "shop")
        assert row is not None
        assert [(each.name, each.builds) for each in row.build_secrets] == [
            ("EACH", "all"), ("KEY", "all"), ("KEY", "previews"), ("KEY", "production"), ("KEY", "staging"),
            ("ONLY", "qa"),
        ]  # fmt: skip
        assert given_to(connection, "main") == {"KEY": b"p", "EACH": b"e"}
        assert given_to(connection, "staging") == {"KEY": b"s", "EACH": b"e"}
        assert given_to(connection, "tags/rc-1") == {"KEY": b"a", "EACH": b"e", "ONLY": b"q"}
        assert given_to(connection, "dev") == {"KEY": b"v", "EACH": b"e"}
        with pytest.raises(NotPossible, match="no environment 'prod'"):
            put(connection, "KEY", b"x", "prod")
        put(connection, "KEY", b"b", "all")
        assert given_to(connection, "main")["KEY"] == b"b", "what is set for all takes the place of the others"
        put(connection, "KEY", b"s", "staging")
        assert projects.delete_build_secret(connection, "shop", "KEY", "staging")
        assert not projects.delete_build_secret(connection, "shop", "KEY", "staging")
        assert given_to(connection, "staging")["KEY"] == b"b"
        assert projects.delete_build_secret(connection, "shop", "KEY")
        assert given_to(connection, "staging") == {"EACH": b"e"}


def test_what_a_builder_must_be_able_to_do(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        project(connection)
        assert "environments" in offered(connection, "staging").needs
        assert "environments" not in offered(connection, "dev").needs
        assert "environments" not in offered(connection, "main").needs


def test_what_was_built_for_an_environment_never_goes_live(tmp_path: Path) -> None:
    with database(tmp_path) as connection:
        project(connection)
        projects.update(connection, "shop", {"protected": ["main", "staging"]}, NOW)
        queued = offered(connection, "staging")
        assert queued.of == Decided(environment="staging", preview="", refs=["staging", "release/**"])
        made = releases.create(
            connection, attempt=queued.name, target="static", project="shop", sha256="a" * 64, files=1, size=1,
            commit="c" * 40, now=NOW,
        )  # fmt: skip
        projects.update(connection, "shop", {"default_ref": "staging"}, NOW)
        settled = releases.settle(connection, "shop", made.id, NOW)
        assert (settled.state, settled.environment) == ("packed", "staging")
        with pytest.raises(NotProtected, match="was built for the environment staging"):
            releases.activate(connection, "shop", made.id, NOW, who="ann")


# -- the API ---------------------------------------------------------------------------------------------------------


class ApiTests(World):
    async def test_a_project_has_environments(self) -> None:
        await self.project()
        at = "/api/v1/projects/shop"
        said = [{"name": "staging", "refs": ["staging", "staging"]}, {"name": "qa", "refs": ["qa/*"], "approval": 1}]
        previews = [{"name": "URL", "value": "p", "builds": "previews"}]
        await self.ask("PATCH", at, {"variables": previews})
        changed = await self.ask("PATCH", at, {"environments": said})
        assert [each["name"] for each in changed.json["environments"]] == ["staging", "qa"], changed.raw
        assert changed.json["environments"][0] == {"name": "staging", "refs": ["staging"]}
        assert changed.json["of_contexts"]["environments"] == {"staging": {"URL": "p"}, "qa": {"URL": "p"}}
        own = [{"name": "URL", "value": "s", "builds": "staging"}]
        changed = await self.ask("PATCH", at, {"variables": own})
        assert changed.json["of_contexts"]["environments"]["staging"] == {"URL": "s"}
        self.problem(await self.ask("PATCH", at, {"environments": [{"name": "all", "refs": ["x"]}]}), 422, "can't be")
        wrong = [{"name": "URL", "value": "s", "builds": "prod"}]
        self.problem(await self.ask("PATCH", at, {"variables": wrong}), 409, "no environment 'prod'")
        self.problem(
            await self.ask("PUT", f"{at}/secrets/KEY", {"value": "long enough", "builds": "prod"}), 409, "'prod'"
        )
        for builds in ("staging", "all"):
            body = {"value": "long enough", "builds": "staging"}
            assert (await self.ask("PUT", f"{at}/secrets/KEY", body)).status == 204, builds
        refused = await self.ask("PATCH", at, {"environments": said[1:]})
        self.problem(refused, 409, "the environment staging has the secret KEY: remove it first")
        assert (await self.ask("DELETE", f"{at}/secrets/KEY?builds=staging")).status == 204
        self.problem(await self.ask("DELETE", f"{at}/secrets/KEY?builds=staging"), 404)
        changed = await self.ask("PATCH", at, {"environments": said[1:]})
        assert changed.json["of_contexts"]["environments"] == {"qa": {"URL": "p"}}
        lines = (await self.ask("GET", "/api/v1/audit?action=project.change")).json["lines"]
        assert "qa from qa/* with approval" in lines[0]["detail"]["environments"]

    async def test_a_build_says_its_environment(self) -> None:
        await self.project()
        at = "/api/v1/projects/shop"
        await self.ask("PATCH", at, {"environments": [{"name": "staging", "refs": ["staging"]}]})
        for ref, environment in ((None, "production"), ("staging", "staging"), ("dev", "preview")):
            made = await self.ask("POST", f"{at}/builds", {} if ref is None else {"ref": ref})
            assert made.json["environment"] == environment
        shown = await self.ask("GET", f"/api/v1/builds/{made.json['id']}")
        assert shown.json["environment"] is None, "it is decided when the build is offered"


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Any:
    with serving() as running:
        yield running


def test_the_command(server: Server) -> None:
    qa = {"name": "qa", "refs": ["qa/*"], "approval": 1}
    server.on("GET /api/v1/projects/shop", as_json({**PROJECT, "protected": ["main"], "environments": [qa]}))
    server.on("PATCH /api/v1/projects/shop", as_json(PROJECT))

    def sent(*arguments: str) -> object:
        result = run(server, "project", "environment", *arguments)
        assert result.exit_code == 0, result.output
        return server.asked[-1].json["environments"]

    assert sent("add", "shop", "staging", "--ref", "staging") == [qa, {"name": "staging", "refs": ["staging"]}]
    assert sent("set", "shop", "qa", "--no-approval") == [{"name": "qa", "refs": ["qa/*"]}]
    assert sent("set", "shop", "qa", "--ref", "x") == [{"name": "qa", "refs": ["x"], "approval": 1}]
    assert sent("remove", "shop", "qa") == []
    listed = run(server, "project", "environment", "list", "shop").stdout
    assert [line.split()[0] for line in listed.splitlines()] == ["NAME", "production", "qa", "preview"]
    for wrong, code in (
        (("add", "shop", "qa", "--ref", "x"), 2),
        (("set", "shop", "production", "--approval"), 2),
        (("set", "shop", "qa"), 2),
        (("set", "shop", "no", "--approval"), 4),
        (("remove", "shop", "no"), 4),
    ):
        assert run(server, "project", "environment", *wrong).exit_code == code, wrong


def test_variables_and_secrets_of_an_environment(server: Server) -> None:
    server.on("PATCH /api/v1/projects/shop", as_json(PROJECT))
    server.on("PUT /api/v1/projects/shop/secrets/KEY", as_json(None, 204))
    server.on("DELETE /api/v1/projects/shop/secrets/KEY", as_json(None, 204))
    assert run(server, "project", "env", "set", "shop", "A=1", "--environment", "staging").exit_code == 0
    assert server.asked[-1].json["variables"] == [{"name": "A", "value": "1", "builds": "staging"}]
    secret = ("project", "secret")
    assert run(server, *secret, "set", "shop", "KEY", "--environment", "staging", given="long enough").exit_code == 0
    assert server.asked[-1].json["builds"] == "staging"
    assert run(server, *secret, "remove", "shop", "KEY", "--environment", "preview").exit_code == 0
    assert server.asked[-1].query == {"builds": "previews"}
    both = run(server, "project", "env", "set", "shop", "A=1", "--environment", "staging", "--production")
    assert "contradict" in both.stderr
