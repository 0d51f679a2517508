"""Plans: what a repository's files say about how it is built, and what they may not say."""

from __future__ import annotations

import pytest

from twistedipc.builds.plan import OUTPUTS, BadPlan, Plan, PlannedStep, make_plan

PACKAGE = b'{"name": "x", "scripts": {"build": "vite build", "test": "true"}}'


def runs(plan: Plan) -> list[str]:
    return [step.run for step in plan.steps]


def test_npm_with_a_lock_file() -> None:
    for lock in ("package-lock.json", "npm-shrinkwrap.json"):
        plan = make_plan(None, PACKAGE, {lock})
        assert plan.steps == [
            PlannedStep(name="install", run="npm ci --prefer-offline"),
            PlannedStep(name="build", run="npm run build"),
        ]
        assert plan.outputs == OUTPUTS


def test_npm_without_a_lock_file_and_without_a_build() -> None:
    assert runs(make_plan(None, b"\xef\xbb\xbf{}", set())) == ["npm install --prefer-offline"]


def test_a_plan_file() -> None:
    plan = make_plan(
        b"""
        [build]
        steps = ["make", {name = "test", run = "npm test"}]
        output = "./web//dist/"
        timeout = 600
        idle_timeout = 60.5
        [build.environment]
        MODE = "production"
        """,
        PACKAGE,
        set(),
    )
    assert plan == Plan(
        steps=[PlannedStep(name="make", run="make"), PlannedStep(name="test", run="npm test")],
        output="web/dist",
        timeout=600,
        idle_timeout=60.5,
        environment={"MODE": "production"},
    )
    assert plan.outputs == ("web/dist",)


def test_a_plan_file_without_steps_keeps_npm_s() -> None:
    plan = make_plan(b'[build]\noutput = "."', PACKAGE, {"package-lock.json"})
    assert runs(plan) == ["npm ci --prefer-offline", "npm run build"]
    assert plan.output == "."


def test_no_node_needed() -> None:
    assert runs(make_plan(b'[build]\nsteps = ["make"]', None, set())) == ["make"]
    assert runs(make_plan(b"[build]\nsteps = []", None, set())) == []


def test_step_names() -> None:
    plan = make_plan(b"[build]\nsteps = ['pack', '''echo a\necho b''', '" + b"x" * 80 + b"']", None, set())
    assert [step.name for step in plan.steps] == ["sh: pack", "echo a", "x" * 59 + "…"]


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (b"[build]\ntimeout = 'x'", "`.twistedipc.toml`: build.timeout: expected `float | null`, got `str`"),
        (b"[build]\ntimeout = 0", "build.timeout: expected `float` > 0"),
        (b"[build]\ntimeout = -1.0", "build.timeout"),
        (b"[build]\nstep = []", "build: object contains unknown field `step`"),
        (b"[bild]\n", "object contains unknown field `bild`"),
        (b"[build]\nsteps = 'make'", "build.steps: expected `array | null`, got `str`"),
        (b"[build]\nsteps = [1]", "build.steps[0]"),
        (b"[build]\nsteps = ['']", "build.steps[0]"),
        (b"[build]\nsteps = [' ']", "a step is empty"),
        (b"[build]\nsteps = [{name = 'publish', run = 'x'}]", "no step can be named publish"),
        (b"[build]\nsteps = [{name = 'x'}]", "build.steps[0]: object missing required field `run`"),
        (b'[build]\nsteps = ["a\\u0000b"]', "can't be in a command"),
        (b"[build]\noutput = '../x'", "build.output: it must be a folder inside the repository"),
        (b"[build]\noutput = '/etc'", "build.output"),
        (b"[build]\noutput = '.git/hooks'", "build.output"),
        (b"[build.environment]\nLD_PRELOAD = 'x'", "build.environment: LD_PRELOAD can't be set"),
        (b"[build.environment]\nA = 1", "build.environment"),
        (b"nonsense", "isn't TOML"),
        (b"\xff", "isn't UTF-8"),
        (b"a = " + b"[" * 100_000, "isn't TOML"),
    ],
)
def test_errors_name_the_key(file: bytes, sentence: str) -> None:
    with pytest.raises(BadPlan) as raised:
        make_plan(file, PACKAGE, set())
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    "package",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"scripts": {"\xff": ""}}',
        b'{"scripts": 1}',
        b'{"scripts": {"build": 1}}',
        b"[" * 100_000,
    ],
)
def test_bad_package_json(package: bytes) -> None:
    with pytest.raises(BadPlan, match=r"package\.json can't be read"):
        make_plan(None, package, set())


def test_nothing_to_build() -> None:
    with pytest.raises(BadPlan, match=r"needs a package\.json, or a \.twistedipc\.toml"):
        make_plan(None, None, set())
