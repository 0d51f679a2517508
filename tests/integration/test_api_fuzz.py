"""
The real service against what its own OpenAPI document allows and forbids: schemathesis, with all its default checks.

The cases are the same each time, and few. With another seed (``TWISTEDIPC_TESTS_SEED=8``) they are others.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import hypothesis
import msgspec
import pytest
import schemathesis
from requests.adapters import HTTPAdapter
from schemathesis.checks import load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.integration.platform import Platform
from tests.properties import FACTOR, examples, seed
from twistedipc import __version__
from twistedipc.builds import names, protection, retention
from twistedipc.builds.names import BadValue
from twistedipc.builds.settings import BuildSettings, checked
from twistedipc.publish.targets.npm.target import Npm, NpmSettings
from twistedipc.publish.targets.static.target import Static, StaticSettings
from twistedipc.web.api.openapi import document
from twistedipc.web.api.routes import ROUTES

SEED = seed(7)

#: Cases of each operation, beside those that schemathesis derives one by one from the operation's schema.
EXAMPLES = examples(2)

#: Of operations for which schemathesis derives hundreds, since a project has many settings, one in so many is tried.
SAMPLED = {"add_project": 3, "change_project": 3} if FACTOR == 1 else {}

#: Chains of requests, each of which uses what an earlier one gave; and the most requests of one chain.
CHAINS, STEPS = examples(4), 6

pytestmark = pytest.mark.long

PROJECT = "hello"

#: Operations of whose requests no schema can say which are taken: that depends on the project, on the secret's name, on
#: the calendar and the time zones that the machine knows, or on what is a regular expression; or whose body is another
#: protocol's.
BY_RULES = {"ask_by_mcp", "receive_hook", "search_log", "search_logs", "set_known_hosts", "set_schedule", "set_secret"}

#: Operations of which what is of the wrong type may be a good value: in a query a number is a text, and the name of a
#: project may look like one.
BY_TEXT = {"show_overview"}

TYPES = {(route.name, status): kind for route in ROUTES for status, kind in route.responses.items()}


@functools.cache
def schema() -> schemathesis.BaseSchema:
    """The document, as schemathesis has it."""
    config = SchemathesisConfig(seed=SEED)
    config.projects.default.generation.update(
        max_examples=EXAMPLES, deterministic=True, database="none", no_shrink=True
    )
    loaded = schemathesis.openapi.from_dict(document(ROUTES, __version__), config=config)
    loaded.hook("filter_case")(_harmless)
    loaded.hook("filter_case")(_sampled)
    # A WebSocket is no request with an answer: tests/test_web_websocket_seam.py and test_viewers.py have them.
    return loaded.exclude(operation_id=[route.name for route in ROUTES if route.websocket])


def _harmless(_: object, case: schemathesis.Case[Any]) -> bool:
    """Not what would end the test itself: that its token is revoked, or its project deleted."""
    name, path = _name(case), case.path_parameters
    return not (
        (name == "revoke_token" and str(path.get("token")) == "1")
        or (name == "remove_project" and path.get("project") == PROJECT)
    )


_count: Counter[str] = Counter()


def _sampled(_: object, case: schemathesis.Case[Any]) -> bool:
    name = _name(case)
    _count[name] += 1
    return (_count[name] + SEED) % SAMPLED.get(name, 1) == 0


def _name(case: schemathesis.Case[Any]) -> str:
    """The route's."""
    name: str = case.operation.definition.raw["operationId"]
    return name


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with a project, a build with its log, and a release, so that there is something to be found."""
    with Platform(tmp_path_factory.mktemp("fuzz")) as platform:
        step = '{name = "make", run = "mkdir dist && echo hello | tee dist/index.html"}'
        files = {".twistedipc.toml": f'[build]\nsteps = [{step}]\noutput = "dist"\n'}
        platform.add_project(PROJECT, platform.repository(files), publish={"static": True})
        platform.succeed(platform.build(PROJECT))
        # The repositories that are made up from now on mustn't be fetched: the builds stay queued.
        platform.builder.kill()
        yield platform
        assert "Traceback" not in platform.apiserver.text()
    # What was made of the document is most of what this process of pytest has, and would slow down each fork of it.
    schema.cache_clear()


@pytest.fixture(scope="module", autouse=True)
def _from_anywhere() -> Iterator[None]:
    """
    Each request comes from an address of its own (all of 127.0.0.0/8 is this machine), since the server makes an
    address wait that has shown too many bad tokens.
    """
    numbers = itertools.count(2)
    real = HTTPAdapter.init_poolmanager

    def init_poolmanager(self: HTTPAdapter, *arguments: Any, **more: Any) -> None:
        high, low = divmod(next(numbers), 250)
        real(self, *arguments, source_address=(f"127.1.{high % 250}.{low + 1}", 0), **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPAdapter, "init_poolmanager", init_poolmanager)
        yield


_KEY = "Idempotency-Key"
_new = itertools.count()


def how(case: schemathesis.Case[Any], platform: Platform) -> dict[str, Any]:
    """How a case is to be called."""
    if re.fullmatch("[!-~]{1,200}", case.headers.get(_KEY, "")):
        case.headers[_KEY] += f"-{next(_new)}"  # the same one with another body is refused, as it should be
    if case.meta is None or case.meta.generation.mode.is_positive:
        _within_the_rules(case.body)
        for moment in ("since", "until"):  # what is made up is of the right length, and no time
            case.query.pop(moment, None)
    return {"base_url": platform.url, "headers": {"Authorization": f"Bearer {platform.token}"}}


def _within_the_rules(body: Any) -> None:
    """
    Take out of a body that the schema allows what the API refuses by rules that no schema can say.

    A body that the schema forbids stays as it is: without what it was made to break it would be a good one.
    """
    if not isinstance(body, dict):
        return
    if isinstance(body.get("targets"), list):
        kinds = [each.get("type") if isinstance(each, dict) else each for each in body["targets"]]
        body["targets"] = [each for index, each in enumerate(body["targets"]) if kinds[index] not in kinds[:index]]
        for each in body["targets"]:
            if isinstance(each, dict):
                _without_what_is_refused(each)
    if isinstance(body.get("registries"), list):
        body["registries"] = _without_the_same(body["registries"])
    if isinstance(body.get("environments"), list):
        body["environments"] = _good_environments(body["environments"])
    if isinstance(body.get("approval"), float):  # 0.0 is an integer to a schema
        body["approval"] = int(body["approval"])
    if _breaks_a_rule(body.get("settings")):
        del body["settings"]
    if _breaks_a_rule_of_keeping(body.get("retention")):
        del body["retention"]


def _good_environments(said: list[Any]) -> list[Any]:
    """These with names of their own, and with patterns that are some."""
    kept: dict[str, Any] = {}
    for each in said:
        if not isinstance(each, dict):
            return said
        with contextlib.suppress(BadValue, msgspec.ValidationError):
            protection.check(msgspec.convert(each.get("refs"), list[str]))
            if isinstance(each.get("approval"), float):
                each["approval"] = int(each["approval"])
            kept.setdefault(str(each.get("name")), each)
    return list(kept.values())


def _without_what_is_refused(settings: dict[str, Any]) -> None:
    """Leave out of a target's settings, one after another, what it refuses beside those before."""
    kept: dict[str, Any] = {}
    for name, value in sorted(settings.items(), key=lambda item: item[0] != "type"):
        with contextlib.suppress(BadValue):
            if settings.get("type") == Static.name:
                Static().check(msgspec.convert(kept | {name: value}, StaticSettings))
            elif settings.get("type") == Npm.name:
                Npm().check(msgspec.convert(kept | {name: value}, NpmSettings))
            kept[name] = value
    settings.clear()
    settings.update(kept)


def _breaks_a_rule(settings: Any) -> bool:
    """Whether these settings are of the schema's types, and have a value that the API refuses."""
    try:
        checked(msgspec.convert(settings, BuildSettings))
    except BadValue:
        return True
    except msgspec.ValidationError:
        return False
    return False


def _breaks_a_rule_of_keeping(said: Any) -> bool:
    """Whether these rules of retention are of the schema's types, and make no sense."""
    try:
        retention.check(msgspec.convert(said, retention.Own))
    except BadValue:
        return True
    except msgspec.ValidationError:
        return False
    return False


def _without_the_same(registries: list[Any]) -> list[Any]:
    """These without those for the same address or scopes as one before, which the schema can't forbid."""
    kept: list[Any] = []
    seen: set[str] = set()
    for each in registries:
        if isinstance(each, dict) and isinstance(each.get("address"), str) and isinstance(each.get("scopes", []), list):
            keys = [names.place(each["address"]), *(str(scope) for scope in each.get("scopes") or [""])]
            if len(set(keys)) < len(keys) or seen & set(keys):
                continue
            seen |= set(keys)
        kept.append(each)
    return kept


def decodable(_: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]) -> None:
    """A success is of the type by which a client in Python decodes it."""
    kind = TYPES.get((_name(case), response.status_code))
    if isinstance(kind, type) and response.headers["content-type"] == ["application/json"]:
        msgspec.json.decode(response.content, type=kind)


def test_what_is_served_is_what_is_tried(platform: Platform) -> None:
    assert json.loads(platform.text("/api/v1/openapi.json")) == document(ROUTES, __version__)


# The cases that schemathesis derives take seconds to make: each operation's are made by its test, and not, as with
# `schema().parametrize()`, by all workers when they look for tests.
@pytest.mark.parametrize(
    "name",
    [route.name for route in ROUTES if not route.websocket],
)
def test_operation(name: str, platform: Platform) -> None:
    (found,) = schema().include(operation_id=name).get_all_operations()
    assert isinstance(found, Ok)

    def try_one(case: schemathesis.Case[Any]) -> None:
        excluded: list[Any] = [positive_data_acceptance] if name in BY_RULES else []
        excluded += [negative_data_rejection] if name in BY_TEXT else []
        case.call_and_validate(additional_checks=[decodable], excluded_checks=excluded, **how(case, platform))

    load_all_checks()
    build_operation_test(
        config=schema().config, operation=found.ok(), test_func=try_one, given_kwargs={}, feedback=FeedbackSources()
    )()


def test_chains(platform: Platform) -> None:
    # Which builders are linked changes from one moment to the next, and with it what can follow. A log may not end.
    steady = schema().exclude(path_regex="/builders|/log$")

    class Chains(steady.as_state_machine()):  # type: ignore[misc]  # a class that is made of the schema
        def get_call_kwargs(self, case: schemathesis.Case[Any]) -> dict[str, Any]:
            return how(case, platform)

        def validate_response(
            self, response: Any, case: schemathesis.Case[Any], checks: Any = None, **sent: Any
        ) -> None:
            # Which bodies are taken is looked at for each operation by itself.
            excluded: list[Any] = [positive_data_acceptance]
            case.validate_response(response, additional_checks=checks, excluded_checks=excluded, transport_kwargs=sent)

    # Each chain is a run of its own, since the platform goes on from one to the next: what Hypothesis has learnt of one
    # may be wrong when it is tried again, and it takes that for chance.
    for number in range(CHAINS):
        with suppress(hypothesis.errors.FlakyStrategyDefinition):
            hypothesis.seed(SEED + number)(Chains).run(
                settings=hypothesis.settings(
                    max_examples=2,  # the simplest is always the first
                    stateful_step_count=STEPS,
                    derandomize=False,
                    phases=[hypothesis.Phase.generate],
                    database=None,
                    deadline=None,
                    suppress_health_check=list(hypothesis.HealthCheck),
                )
            )
