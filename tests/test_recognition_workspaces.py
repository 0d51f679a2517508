"""Several projects in one repository: workspaces, the tools that build them, and what a push touches."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trees import TreeInMemory
from twistedipc.builds.plan import make_plan
from twistedipc.builds.recognition.paths import joined, matches, parents, touches
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.recognition.recognise import recognise
from twistedipc.builds.recognition.recognised import Recognised
from twistedipc.builds.settings import BuildSettings, checked

APP = {"name": "web", "scripts": {"build": "vite build"}, "devDependencies": {"vite": "^7"}}
DOCS = {"name": "docs", "scripts": {"build": "astro build"}, "dependencies": {"astro": "^5"}}
UI = {"name": "@acme/ui", "scripts": {"build": "tsc"}, "dependencies": {"@acme/tokens": "workspace:*"}}
TOKENS = {"name": "@acme/tokens", "scripts": {"build": "node make.js"}}
TYPES = {"name": "@acme/types"}

NPM = {"package.json": {"private": True, "workspaces": ["apps/*", "packages/*"]}, "package-lock.json": "{}"}
PNPM = {
    "package.json": {"private": True, "packageManager": "pnpm@10.4.1"},
    "pnpm-workspace.yaml": "packages:\n  - 'apps/*'\n  - packages/*  # ours\n",
    "pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
}
YARN = {
    "package.json": {"private": True, "workspaces": {"packages": ["apps/**", "packages/*"]}},
    "yarn.lock": "# yarn lockfile v1\n",
}
BUN = {"package.json": {"private": True, "workspaces": ["./apps/*", "./packages/*"]}, "bun.lock": "{}"}


def of(files: dict[str, Any], **settings: Any) -> Recognised:
    return recognise(TreeInMemory(files), checked(BuildSettings(**settings)))


def steps(recognised: Recognised) -> list[tuple[str, str]]:
    assert recognised.install is not None
    return [(step.folder, step.run) for step in (recognised.install, *recognised.build)]


@pytest.mark.parametrize(
    ("top", "install", "run"),
    [
        (NPM, "npm ci --prefer-offline", "npm run build"),
        (PNPM, "pnpm install --frozen-lockfile --prefer-offline", "pnpm run build"),
        (YARN, "yarn install --frozen-lockfile --non-interactive --prefer-offline", "yarn run build"),
        (BUN, "bun install --frozen-lockfile", "bun run build"),
    ],
    ids=["npm", "pnpm", "yarn", "bun"],
)
def test_a_member_is_installed_at_the_top_and_built_after_what_it_needs(
    top: dict[str, Any], install: str, run: str
) -> None:
    app = APP | {"dependencies": {"@acme/ui": "workspace:*", "@acme/types": "*", "react": "^19"}}
    members = {
        "apps/web/package.json": app,
        "apps/docs/package.json": DOCS,
        "packages/ui/package.json": UI,
        "packages/tokens/package.json": TOKENS,
        "packages/types/package.json": TYPES,
    }
    recognised = of(top | members, root="apps/web")
    assert steps(recognised) == [
        ("", install),
        ("packages/tokens", run),
        ("packages/ui", run),
        ("apps/web", run),
    ]
    assert recognised.manager is not None
    assert "/" not in recognised.manager.lock
    assert recognised.outputs[0] == "apps/web/dist"
    plan = make_plan(TreeInMemory(top | members), BuildSettings(root="apps/web"))
    assert plan.root == "apps/web"
    assert plan.roots == ["apps/web", "", "packages/tokens", "packages/ui"]
    assert plan.outputs[0] == "apps/web/dist"
    assert all(folder.startswith("apps/web/") for folder in plan.outputs)


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("turbo.json", "pnpm exec turbo run build --filter=web"),
        ("nx.json", "pnpm exec nx run web:build"),
        ("lerna.json", "pnpm exec lerna run build --scope=web --include-dependencies"),
    ],
)
def test_the_workspace_s_own_tool_builds_a_member(file: str, command: str) -> None:
    files = PNPM | {file: "{}", "apps/web/package.json": APP, "apps/docs/package.json": DOCS}
    recognised = of(files, root="apps/web")
    assert steps(recognised)[1:] == [("", command)]
    assert recognised.outputs[0] == "apps/web/dist"
    # A command of one's own runs in the root.
    assert steps(of(files, root="apps/web", build="make"))[1:] == [("apps/web", "make")]


def test_the_only_application_is_the_project() -> None:
    files = PNPM | {"apps/web/package.json": APP, "packages/ui/package.json": UI | {"dependencies": {}}}
    recognised = of(files)
    assert (recognised.root, recognised.framework) == ("apps/web", "vite")
    assert steps(recognised)[1:] == [("apps/web", "pnpm run build")]
    assert steps(of(files | {"turbo.json": "{}"}))[1:] == [("", "pnpm exec turbo run build --filter=web")]
    # The authors' own way to build all of it comes first.
    top = PNPM["package.json"] | {"scripts": {"build": "pnpm -r build"}}  # type: ignore[operator]
    recognised = of(files | {"package.json": top})
    assert steps(recognised)[1:] == [("", "pnpm run build")]
    assert recognised.outputs[0] == "apps/web/dist"


def test_several_applications_ask_for_a_root() -> None:
    files = PNPM | {"apps/web/package.json": APP, "apps/docs/package.json": DOCS}
    assert "several applications, apps/docs, apps/web: say which one" in of(files).refusal
    with pytest.raises(BadPlan, match="--root apps/docs"):
        make_plan(TreeInMemory(files), BuildSettings())
    assert of(files, root="apps/docs").framework == "astro"


def test_the_likely_applications_are_named_first() -> None:
    folders = ["examples/a", "examples/b", "packages/site", "website", "packages/x/__e2e__/fixtures/y", "examples/c"]
    top = {"private": True, "workspaces": ["website", "packages/**", "examples/*"]}
    files = {"package.json": top} | {f"{folder}/package.json": APP | {"name": folder} for folder in folders}
    assert (
        "several applications, website, packages/site, examples/a, examples/b, examples/c and 1 more: say which one "
        "this project is by its root, for example twistedipc project set NAME --root website"
    ) in of(files).refusal


@pytest.mark.parametrize(
    "command",
    [
        "yarn --cwd ./excalidraw-app build",
        "yarn workspace web run build",
        "npm run build --prefix=excalidraw-app",
        "pnpm --filter 'web...' build",
        "cd excalidraw-app/ && npm run build",
        "yarn build:app",
    ],
)
def test_the_application_that_the_top_s_script_builds_is_the_project(command: str) -> None:
    """What its members are built with may be at the workspace's top alone."""
    scripts = {"build": command, "build:app": "yarn --cwd ./excalidraw-app build"}
    top = {"workspaces": ["excalidraw-app", "examples/*"], "scripts": scripts, "devDependencies": {"vite": "^7"}}
    files = {
        "package.json": top,
        "excalidraw-app/package.json": {"name": "web", "scripts": {"build": "cross-env A=1 vite build"}},
        "excalidraw-app/index.html": "",
        "excalidraw-app/vite.config.mts": "export default { build: { outDir: 'build' } }",
        "examples/one/package.json": APP | {"name": "one"},
    }
    recognised = of(files)
    assert (recognised.root, recognised.framework, recognised.spa) == ("excalidraw-app", "vite", True)
    assert steps(recognised)[1:] == [("", "npm run build")]
    assert recognised.outputs[0] == "excalidraw-app/build"
    assert not recognised.advice[1:]
    assert of(files, root="excalidraw-app").framework == "vite"


@pytest.mark.parametrize(
    ("build", "folder"),
    [("tsdown", "site"), ("tsc -b && rollup -c", "site"), ("node scripts/build.mjs", ""), ("vp run -r build", "")],
)
def test_a_top_s_script_that_builds_the_packages_alone_is_not_the_site_s(build: str, folder: str) -> None:
    top = {"workspaces": ["packages/*", "site"], "scripts": {"build": build, "site:build": "npm run build -w site"}}
    site = {"name": "@acme/docs", "scripts": {"build": "vitepress build"}, "devDependencies": {"vitepress": "^2"}}
    files = {"package.json": top, "site/package.json": site, "packages/ui/package.json": UI | {"dependencies": {}}}
    recognised = of(files)
    assert (recognised.root, recognised.outputs[0]) == ("site", "site/.vitepress/dist")
    assert steps(recognised)[1:] == [(folder, "npm run build")]


def test_a_site_whose_script_has_another_name_is_not_built_by_the_top_s() -> None:
    top = {"workspaces": ["packages/*", "demos"], "scripts": {"build": "vp run -r build"}}
    demos = {"name": "demos", "scripts": {"build:demos": "vp build"}, "devDependencies": {"vite-plus": "^1"}}
    recognised = of({"package.json": top, "demos/package.json": demos})
    assert steps(recognised)[1:] == [("demos", "npm run build:demos")]


def test_a_library_that_is_bundled_is_no_application() -> None:
    library = APP | {"name": "@acme/ui", "exports": "./dist/index.js"}
    recognised = of(PNPM | {"apps/web/package.json": APP, "packages/ui/package.json": library})
    assert (recognised.root, recognised.refusal) == ("apps/web", "")


def test_applications_below_a_package_that_builds_nothing_are_named() -> None:
    files = {"apps/a/package.json": APP, "apps/b/package.json": DOCS, "package.json": {"scripts": {"prepare": "husky"}}}
    recognised = of(files)
    assert recognised.no_site == (
        "package.json builds nothing, and there are applications in apps/a, apps/b: say which one this project is by "
        "its root, for example twistedipc project set NAME --root apps/a"
    )
    # What may be the site is there all the same, or nothing is.
    none: dict[str, Any] = {"apps/a/package.json": {}, "apps/b/package.json": {}}
    for more in (none, {"index.html": ""}, {"public/index.html": ""}):
        assert not of(files | more).no_site


def test_applications_below_a_top_without_any_package_are_named() -> None:
    files = {"README.md": "", "server/main.py": "", "client/package.json": APP}
    sentence = (
        "there is nothing to build in the top of the repository, and there is an application in client: if this "
        "project is that one, say so by its root: twistedipc project set NAME --root client"
    )
    with pytest.raises(BadPlan) as refused:
        make_plan(TreeInMemory(files), BuildSettings())
    assert str(refused.value) == sentence


def test_a_top_that_is_an_application_itself_is_the_project() -> None:
    """A library's own site, or an application with packages beside it."""
    top = {**APP, "workspaces": ["packages/*"], "name": "top"}
    recognised = of({"package.json": top, "package-lock.json": "{}", "packages/x/package.json": DOCS})
    assert (recognised.root, recognised.framework) == ("", "vite")


def test_a_folder_that_is_no_member_is_installed_by_itself() -> None:
    files = PNPM | {"examples/a/package.json": APP, "examples/a/package-lock.json": "{}"}
    recognised = of(files, root="examples/a")
    assert steps(recognised) == [("examples/a", "npm ci --prefer-offline"), ("examples/a", "npm run build")]
    # What says the version of Node is looked for above it all the same.
    assert of(files | {".nvmrc": "22"}, root="examples/a").node == "22"


def test_members_that_are_taken_out_or_broken_are_none() -> None:
    files = NPM | {
        "package.json": {"workspaces": ["apps/*", "!apps/old"]},
        "apps/old/package.json": DOCS,
        "apps/web/package.json": APP,
        "apps/broken/package.json": "{",
        "apps/readme.md": "",
    }
    assert of(files).root == "apps/web"


def test_packages_that_need_one_another_are_built_once() -> None:
    files = NPM | {
        "apps/web/package.json": APP | {"dependencies": {"a": "*"}},
        "packages/a/package.json": {"name": "a", "scripts": {"build": "x"}, "dependencies": {"b": "*"}},
        "packages/b/package.json": {"name": "b", "scripts": {"build": "x"}, "dependencies": {"a": "*", "web": "*"}},
    }
    assert [folder for folder, _ in steps(of(files, root="apps/web"))] == ["", "packages/b", "packages/a", "apps/web"]


# -- a root's own file -----------------------------------------------------------------------------------------------


def test_a_root_s_own_plan_file_comes_before_the_repository_s() -> None:
    files = NPM | {
        "apps/web/package.json": APP,
        "apps/docs/package.json": DOCS,
        ".twistedipc.toml": "[build]\nroot = 'apps/web'\noutput = 'top'",
    }
    assert make_plan(TreeInMemory(files), BuildSettings()).output == "apps/web/top"
    own = files | {"apps/web/.twistedipc.toml": "[build]\noutput = 'own'\nsteps = ['make']"}
    for settings in (BuildSettings(), BuildSettings(root="apps/web")):
        plan = make_plan(TreeInMemory(own), settings)
        assert (plan.output, plan.root) == ("apps/web/own", "apps/web")
        assert [(step.run, step.folder) for step in plan.steps] == [("make", "apps/web")]
    docs = own | {"apps/docs/.twistedipc.toml": "[build]\noutput = 'd'"}
    assert make_plan(TreeInMemory(docs), BuildSettings(root="apps/docs")).output == "apps/docs/d"
    with pytest.raises(BadPlan, match=r"apps/docs, and this names another one"):
        make_plan(TreeInMemory(own), BuildSettings(root="apps/docs"))


def test_a_root_of_plain_files_is_the_site() -> None:
    plan = make_plan(TreeInMemory({"site/index.html": "x", "package.json": {}}), BuildSettings(root="site"))
    assert (plan.output, plan.steps) == ("site", [])


# -- paths and patterns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("watch", "changed", "touched"),
    [
        ([], ["a"], True),
        (["apps/web"], ["apps/web/src/a.ts"], True),
        (["apps/web"], ["apps/website/a.ts"], False),
        (["apps/web/**", "packages/*"], ["packages/ui/src/a.ts"], True),
        (["apps/web/**"], ["README.md", "apps/docs/a"], False),
        (["**/*.ts"], ["a.ts"], True),
        (["*.md"], ["docs/a.md"], False),
        (["src", "!src/**/*.md"], ["src/a/b.md"], False),
        (["src", "!src/**/*.md"], ["src/a/b.md", "src/a.ts"], True),
        (["!docs"], ["docs/a.md"], False),
        (["!docs"], ["src/a"], True),
        (["package.json"], ["package.json"], True),
        (["{a,b}/c"], ["b/c"], True),
        (["a"], [], False),
    ],
)
def test_what_a_push_touches(watch: list[str], changed: list[str], touched: bool) -> None:
    assert touches(watch, changed) is touched


@given(st.lists(st.text(alphabet="ab*?!{}[],/.", max_size=8), max_size=4), st.text(alphabet="ab/.", max_size=8))
def test_no_pattern_is_too_odd(patterns: list[str], path: str) -> None:
    assert matches(patterns, path) in (True, False)
    assert touches(patterns, [path]) in (True, False)


@given(st.text(alphabet="ab/.", max_size=12), st.text(alphabet="ab/.\\", max_size=12))
def test_a_path_never_leads_out(folder: str, path: str) -> None:
    base = joined("", folder)
    found = joined(base or "", path)
    assert found is None or ".." not in found.split("/")
    assert found is None or parents(found)[-1:] == ([""] if found else [])


_WILD = {"*": "[^/]*", "**/": "(?:[^/]+/)*", "?": "[^/]", "{a,ab}": "(?:a|ab)", "{b,a/b}": "(?:b|a/b)"}
_FOLDERS = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5).map("/".join)


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "/", *_WILD]), min_size=1, max_size=7)
    .map("".join)
    .filter(lambda pattern: re.search(r"(?:^|/)\*\*(?!/)|[^/*]\*\*|\*\*\*|^/|/$|//|/\*\*$", pattern) is None),
    _FOLDERS,
)
def test_patterns_mean_what_their_plainest_expression_means(pattern: str, path: str) -> None:
    tokens = re.findall(r"\*\*/|\*|\?|\{[^}]*\}|.", pattern)
    plainest = re.compile("".join(_WILD.get(token, token) for token in tokens))
    assert matches([pattern], path) == (plainest.fullmatch(path) is not None)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 40 + "b", "a" * 200),
        ("*?" * 40 + "b", "a" * 200),
        ("**/" * 40 + "x", "a/" * 100 + "y"),
        ("**/*a" * 20 + "b", "aa/" * 80 + "aaa"),
        ("**a" * 40, "a" * 30 + "b"),
        ("{a,aa}*" * 40 + "b", "a" * 200),
    ],
)
def test_no_pattern_takes_long(pattern: str, path: str) -> None:
    """They are strangers', and are matched before any deadline of a step."""
    assert not matches([pattern], path)


@pytest.mark.parametrize("patterns", [["**"] * 100_000, ["**/" * 200 + "*"], ["a/" * 100_000 + "b"]])
def test_patterns_that_no_repository_has_are_refused(patterns: list[str]) -> None:
    """Each is searched for, by a process that has no limits but its own."""
    files = {"package.json": {"workspaces": patterns, "scripts": {"build": "true"}}, "package-lock.json": "{}"}
    with pytest.raises(BadPlan, match="more than 200 patterns of packages"):
        of(files)


def test_all_that_patterns_mean_is_looked_at_once() -> None:
    folders = {f"a/b{number}/package.json": APP for number in range(40)}

    def built(patterns: list[str]) -> list[tuple[str, str]]:
        return steps(of({"package.json": {"workspaces": patterns}, "package-lock.json": "{}", **folders}, root="a/b7"))

    assert built(["/".join(["**"] * 15)] * 100) == built(["**"]) != []
