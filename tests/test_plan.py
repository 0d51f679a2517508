"""Plans: what a repository's files say about how it is built, and what they may not say."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
import pytest

from tests.trees import TreeInMemory
from twistedipc.builds.outputs import GENERATORS, OUTPUTS
from twistedipc.builds.plan import Plan, make_plan
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.recognition.recognised import PlannedStep, Recognised
from twistedipc.builds.settings import BuildSettings

PACKAGE = b'{"name": "x", "scripts": {"build": "vite build", "test": "true"}}'


def plan_of(plan_file: bytes | None, package_json: bytes | None, present: Collection[str]) -> Plan:
    """The plan of a repository with these files."""
    files: dict[str, object] = dict.fromkeys(present, b"")
    files |= {} if plan_file is None else {".twistedipc.toml": plan_file}
    files |= {} if package_json is None else {"package.json": package_json}
    return make_plan(TreeInMemory(files), BuildSettings())


def runs(plan: Plan) -> list[str]:
    return [step.run for step in plan.steps]


def test_npm_with_a_lock_file() -> None:
    for lock in ("package-lock.json", "npm-shrinkwrap.json"):
        plan = plan_of(None, PACKAGE, {lock})
        assert plan.steps == [
            PlannedStep(name="install", run="npm ci --prefer-offline"),
            PlannedStep(name="build", run="npm run build"),
        ]
        assert plan.outputs == OUTPUTS


def test_npm_without_a_lock_file_and_without_a_build() -> None:
    assert runs(plan_of(None, b"\xef\xbb\xbf{}", set())) == ["npm install --prefer-offline"]


def test_a_plan_file() -> None:
    plan = plan_of(
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
    assert msgspec.structs.replace(plan, recognised=Recognised()) == Plan(
        steps=[PlannedStep(name="make", run="make"), PlannedStep(name="test", run="npm test")],
        output="web/dist",
        timeout=600,
        idle_timeout=60.5,
        environment={"MODE": "production"},
    )
    assert plan.outputs == ("web/dist",)


def test_a_plan_file_that_names_its_project() -> None:
    assert plan_of(b'project = "shop"\n[build]\nsteps = ["make"]', None, set()) == plan_of(
        b'[build]\nsteps = ["make"]', None, set()
    )


def test_a_plan_file_without_steps_keeps_npm_s() -> None:
    plan = plan_of(b'[build]\noutput = "."', PACKAGE, {"package-lock.json"})
    assert runs(plan) == ["npm ci --prefer-offline", "npm run build"]
    assert plan.output == "."


def test_no_node_needed() -> None:
    assert runs(plan_of(b'[build]\nsteps = ["make"]', None, set())) == ["make"]
    assert runs(plan_of(b"[build]\nsteps = []", None, set())) == []


def test_how_the_site_is_served() -> None:
    file = b"""
    [site]
    spa = true
    trailing_slash = "never"
    clean_urls = true
    index = "home.html"
    redirects = [{from = "/a/*", to = "/b/:splat", status = 302}]
    """
    plan = plan_of(file, PACKAGE, set())
    assert (plan.spa, plan.index, plan.site.index) == (True, "home.html", "home.html")
    assert (plan.site.trailing_slash, plan.site.clean_urls) == ("never", True)
    assert [rule.target for rule in plan.site.redirects] == ["/b/:splat"]


def test_step_names() -> None:
    plan = plan_of(b"[build]\nsteps = ['pack', '''echo a\necho b''', '" + b"x" * 80 + b"']", None, set())
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
        (b"[build]\nindex = 'home.html'", 'build.index: it can only be "index.html", or ""'),
        (b"[build]\nindex = false", "build.index: expected `str | null`"),
        (b"[build]\ntrailing_slash = 'never'", "build.trailing_slash: it is written under [site]"),
        (b"[build]\nspa = true\n[site]\nspa = false", "site.spa: build.spa says another thing"),
        (b"[site]\ntrailing_slash = 'no'", "site.trailing_slash"),
        (b"[site]\nindex = '../x'", "site.index"),
        (b"[site]\nredirect = []", "site: object contains unknown field `redirect`"),
        (b"[[site.redirects]]\nto = '/a'", "site.redirects[0]: object missing required field `from`"),
        (b"[[site.redirects]]\nfrom = '/a'\nto = 'b'", "site.redirects, number 1: b isn't a path"),
        (b"[[site.headers]]\nfor = '/*'\nvalues = {Set-Cookie = 'a'}", "site.headers, number 1: Set-Cookie can't"),
        (b"[build]\nspa = 1", "build.spa: expected `bool | null`, got `int`"),
        (b"[build.environment]\nTWISTEDIPC_REF = 'x'", "build.environment: TWISTEDIPC_REF can't be set"),
        (b"[build.environment]\nA = 1", "build.environment"),
        (b"nonsense", "isn't TOML"),
        (b'[[environments]]\nname = "staging"\nrefs = ["**"]', "environments"),
        (b"[build]\nenvironments = []", "environments"),
        (b"\xff", "isn't UTF-8"),
        ("[build]\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
        (b"a = " + b"[" * 100_000, "isn't TOML"),
        (b".".join([b"a"] * 100_000) + b" = 1", "a key has more than 32 parts"),
        (b"[ " + b" . ".join([b"a"] * 100_000) + b" ]", "a key has more than 32 parts"),
        (b"x = {" + b".".join([b'"a"', b"'b'"] * 50_000) + b" = 1}", "a key has more than 32 parts"),
    ],
)
def test_errors_name_the_key(file: bytes, sentence: str) -> None:
    with pytest.raises(BadPlan) as raised:
        plan_of(file, PACKAGE, set())
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    "package",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"scripts": {"build": 1}}',
        b'{"scripts": {"build": ["a", "b"]}}',
        b'{"scripts": {"build": "\xff"}}',
        b"[" * 100_000,
    ],
)
def test_bad_package_json(package: bytes) -> None:
    with pytest.raises(BadPlan, match=r"package\.json can't be read"):
        plan_of(None, package, set())


def test_nothing_to_build() -> None:
    for file in (None, b"", b"[build]\ntimeout = 9"):
        with pytest.raises(BadPlan, match=r"needs a package\.json, an index\.html at its top, or a \.twistedipc\.toml"):
            plan_of(file, None, set())
    with pytest.raises(BadPlan, match=r'docs has an index\.html: to release that folder as it is, set output = "docs"'):
        plan_of(None, None, {"docs/index.html"})


def test_plain_html_is_the_repository_itself() -> None:
    """A site without any build was refused with "there is nothing to build"."""
    for file in (None, b"[build]\ntimeout = 60", b"[build]\nsteps = []"):
        plan = plan_of(file, None, {"index.html"})
        assert (plan.steps, plan.output, plan.index) == ([], ".", "index.html")
    assert plan_of(b"[build]\noutput = 'site'", None, {"index.html"}).output == "site"
    assert plan_of(b"[build]\noutput = 'site'", None, set()).steps == []
    assert plan_of(b"[build]\nsteps = ['make']", None, {"index.html"}).output == ""
    # An index.html beside a package.json is a source for most tools: it isn't taken for the site.
    plan = plan_of(None, b"{}", {"index.html"})
    assert (plan.output, plan.remark) == (
        "",
        'package.json has no script "build", so that nothing was built. To release the repository itself, with its '
        'index.html, set output = "." in .twistedipc.toml.',
    )


def test_an_index_html_that_a_generator_reads_is_no_plain_site() -> None:
    for generator in GENERATORS:
        with pytest.raises(BadPlan, match=f"{generator.file} says that {generator.name} makes this site"):
            plan_of(None, None, {"index.html", generator.file})
        assert plan_of(b"[build]\noutput = '.'", None, {"index.html", generator.file}).output == "."


def test_a_folder_of_assets() -> None:
    assert plan_of(b"[build]\nsteps = ['make']\nindex = ''", None, set()).index == ""
    assert plan_of(b"[build]\nsteps = ['make']\nindex = 'index.html'", None, set()).index == "index.html"


def test_a_plan_file_with_a_byte_order_mark() -> None:
    """Windows' editors save one: it was "isn't TOML: Invalid statement (at line 1, column 1)"."""
    assert runs(plan_of(b'\xef\xbb\xbf[build]\r\nsteps = ["make"]\r\n', None, set())) == ["make"]


@pytest.mark.parametrize(
    "package",
    [
        b'{"scripts": {"//": ["how", "to"], "build": "x"}}',
        b'{"scripts": {"clean": false, "test": null, "a": {"b": 1}, "build": "x"}}',
        b'{"scripts": {"\xff": "", "build": "x"}}',
        b'{"version": 1e999, "packageManager": 7, "devEngines": [], "scripts": {"build": "x"}}',
        b'\xef\xbb\xbf{"scripts" : {"build": ""}}',
    ],
)
def test_only_the_build_script_must_be_a_string(package: bytes) -> None:
    """npm takes all of these: a build failed with "package.json can't be read: scripts[...]: expected `str`"."""
    assert runs(plan_of(None, package, set())) == ["npm install --prefer-offline", "npm run build"]


@pytest.mark.parametrize("scripts", [b"null", b"[]", b"1", b"false", b"{}"])
def test_what_is_no_object_is_no_scripts(scripts: bytes) -> None:
    plan = plan_of(None, b'{"scripts": %b}' % scripts, set())
    assert runs(plan) == ["npm install --prefer-offline"]
    assert plan.remark == 'package.json has no script "build", so that nothing was built.'


@pytest.mark.parametrize(
    ("said", "framework", "top", "expected"),
    [
        (b"", False, [], False),
        (b"", True, [], True),
        (b"", True, ["404.html"], False),
        (b"", True, ["404.html", "200.html"], True),
        (b"", False, ["200.html"], False),
        (b"spa = true", False, ["404.html"], True),
        (b"spa = false", True, ["200.html"], False),
    ],
)
def test_single_pages(said: bytes, framework: bool, top: list[str], expected: bool) -> None:
    """The project's word, else its framework's; a page for what isn't found speaks against it."""
    plan = plan_of(b"[build]\n" + said, PACKAGE, set())
    assert msgspec.structs.replace(plan, framework_spa=framework).is_single_page(top) is expected


@pytest.mark.parametrize("build", [b"null", b"false"])
def test_a_build_script_that_is_null_is_none(build: bytes) -> None:
    """As for npm, which says that there is no such script."""
    assert runs(plan_of(None, b'{"scripts": {"build": %b}}' % build, set())) == ["npm install --prefer-offline"]


def test_a_repository_can_ask_for_less_of_the_network_and_not_for_more() -> None:
    def network_of(text: bytes, said: BuildSettings) -> Plan:
        return make_plan(TreeInMemory({".twistedipc.toml": text}), said)

    steps = b'[build]\nsteps = ["a", {name = "b", run = "b", network = "none"}]\nnetwork = "registries"\n'
    plan = network_of(steps, BuildSettings())
    assert (plan.network, [step.network for step in plan.steps]) == ("registries", [None, "none"])
    known = BuildSettings(network="registries", hosts=["cdn.example.org"], egress="ask")
    plan = network_of(b'[build]\nsteps = ["a"]\negress = "record"\n', known)
    assert (plan.network, plan.hosts, plan.egress) == ("registries", ["cdn.example.org"], "ask")
    for text, sentence in (
        (b'[build]\nnetwork = "open"\n', "build.network: the project has"),
        (b'[build]\nhosts = ["evil.example.org"]\n', "build.hosts: which hosts its builds may reach"),
        (b'[build]\nsteps = [{name = "b", run = "b", network = "open"}]\n', 'b has network = "open"'),
        (b'[build]\nnetwork = "all"\n', "build.network"),
    ):
        with pytest.raises(BadPlan) as raised:
            network_of(text, known)
        assert sentence in str(raised.value)
