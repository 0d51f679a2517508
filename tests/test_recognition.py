"""What projects are, recognised from the files that their scaffolds make: frameworks, commands, outputs, and why."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trees import TreeInMemory
from twistedipc.builds.plan import make_plan
from twistedipc.builds.recognition.frameworks import BY_NAME, FRAMEWORKS
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.recognition.recognise import recognise
from twistedipc.builds.recognition.recognised import Finding, Recognised, told
from twistedipc.builds.settings import BuildSettings, checked
from twistedipc.trees.folder import FolderTree

LOCK: dict[str, object] = {"package-lock.json": '{"lockfileVersion": 3}'}


def of(files: dict[str, object], **settings: Any) -> Recognised:
    return recognise(TreeInMemory(files), checked(BuildSettings(**settings)))


def package(build: str = "", *uses: str, dev: tuple[str, ...] = (), **fields: Any) -> dict[str, object]:
    scripts = {"build": build} if build else {}
    found: dict[str, object] = {"name": "app", "private": True, "scripts": scripts}
    return found | {"dependencies": dict.fromkeys(uses, "^1"), "devDependencies": dict.fromkeys(dev, "^1")} | fields


def found(recognised: Recognised, what: str) -> list[Finding]:
    return [finding for finding in recognised.findings if finding.what == what]


class Scaffold(NamedTuple):
    framework: str
    files: dict[str, object]
    build: str
    output: str  # the first folder that is looked at
    spa: bool = False
    kind: str = "static"


NUXT = {"build": "nuxt build", "dev": "nuxt dev", "generate": "nuxt generate", "preview": "nuxt preview"}
ANGULAR_JSON = {
    "version": 1,
    "projects": {
        "shop": {
            "projectType": "application",
            "architect": {
                "build": {"builder": "@angular/build:application", "options": {"browser": "src/main.ts"}},
            },
        }
    },
}

SCAFFOLDS = [
    Scaffold(
        "vite",
        {
            "package.json": package("tsc -b && vite build", "react", dev=("vite",)),
            "index.html": "",
            "vite.config.ts": "",
        },
        "npm run build",
        "dist",
        spa=True,
    ),
    Scaffold(
        "vite",
        {
            "package.json": package("vite build", dev=("vite",)),
            "vite.config.js": "export default {\n  // outDir: 'no',\n  build: { outDir: 'www' },\n}",
        },
        "npm run build",
        "www",
        spa=True,
    ),
    Scaffold(
        "vite",
        {"package.json": package("vite build --outDir=site", dev=("vite",)), "index.html": ""},
        "npm run build",
        "site",
        spa=True,
    ),
    Scaffold(
        "next",
        {
            "package.json": package("next build", "next", "react"),
            "next.config.mjs": 'const nextConfig = {\n  output: "export",\n};\nexport default nextConfig;',
        },
        "npm run build",
        "out",
    ),
    Scaffold("next", {"package.json": package("next build && next export", "next")}, "npm run build", "out"),
    Scaffold(
        "nuxt",
        {"package.json": package("", "nuxt", scripts=NUXT), "nuxt.config.ts": "export default defineNuxtConfig({})"},
        "npx --no-install nuxt generate",
        ".output/public",
    ),
    Scaffold(
        "nuxt",
        {"package.json": package("nuxt generate", "nuxt"), "nuxt.config.ts": "export default { ssr: false }"},
        "npm run build",
        ".output/public",
        spa=True,
    ),
    Scaffold(
        "astro",
        {"package.json": package("astro build", "astro"), "astro.config.mjs": "export default defineConfig({});"},
        "npm run build",
        "dist",
    ),
    Scaffold(
        "sveltekit",
        {
            "package.json": package("vite build", dev=("@sveltejs/kit", "@sveltejs/adapter-static", "vite", "svelte")),
            "svelte.config.js": (
                "import adapter from '@sveltejs/adapter-static';\n"
                "export default { kit: { adapter: adapter({ pages: 'public_html', fallback: '200.html' }) } };"
            ),
            "vite.config.ts": "",
        },
        "npm run build",
        "public_html",
        spa=True,
    ),
    Scaffold(
        "angular",
        {"package.json": package("ng build", "@angular/core", dev=("@angular/cli",)), "angular.json": ANGULAR_JSON},
        "npm run build",
        "dist/shop/browser",
        spa=True,
    ),
    Scaffold(
        "vue-cli",
        {"package.json": package("vue-cli-service build", "vue", dev=("@vue/cli-service",)), "public/index.html": ""},
        "npm run build",
        "dist",
        spa=True,
    ),
    Scaffold(
        "create-react-app",
        {"package.json": package("react-scripts build", "react", "react-scripts"), "public/index.html": ""},
        "npm run build",
        "build",
        spa=True,
    ),
    Scaffold(
        "react-router",
        {
            "package.json": package("react-router build", "react-router", dev=("@react-router/dev", "vite")),
            "react-router.config.ts": 'import type { Config } from "@react-router/dev/config";\n'
            "export default {\n  ssr: false,\n} satisfies Config;",
            "vite.config.ts": "",
        },
        "npm run build",
        "build/client",
        spa=True,
    ),
    Scaffold(
        "remix",
        {
            "package.json": package("remix vite:build", "@remix-run/react", dev=("@remix-run/dev", "vite")),
            "vite.config.ts": "export default defineConfig({ plugins: [remix({ ssr: false })] });",
        },
        "npm run build",
        "build/client",
        spa=True,
    ),
    Scaffold("gatsby", {"package.json": package("gatsby build", "gatsby")}, "npm run build", "public"),
    Scaffold(
        "eleventy",
        {
            "package.json": package("npx @11ty/eleventy", dev=("@11ty/eleventy",)),
            "eleventy.config.js": 'export const config = { dir: { input: "content", output: "_out" } };',
        },
        "npm run build",
        "_out",
    ),
    Scaffold(
        "docusaurus",
        {"package.json": package("docusaurus build", "@docusaurus/core"), "docusaurus.config.ts": ""},
        "npm run build",
        "build",
    ),
    Scaffold(
        "vitepress",
        {
            "package.json": package("", dev=("vitepress",), scripts={"docs:build": "vitepress build docs"}),
            "docs/.vitepress/config.mts": "",
            "docs/index.md": "",
        },
        "npm run docs:build",
        "docs/.vitepress/dist",
    ),
    Scaffold(
        "vuepress",
        {"package.json": package("vuepress build src", dev=("vuepress",)), "src/.vuepress/config.js": ""},
        "npm run build",
        "src/.vuepress/dist",
    ),
    Scaffold(
        "storybook",
        {
            "package.json": package("", dev=("storybook",), scripts={"build-storybook": "storybook build"}),
            ".storybook/main.ts": "",
        },
        "npm run build-storybook",
        "storybook-static",
    ),
    Scaffold(
        "parcel",
        {"package.json": package("parcel build src/index.html", dev=("parcel",))},
        "npm run build",
        "dist",
        True,
    ),
    Scaffold(
        "ember",
        {"package.json": package("ember build --environment=production", dev=("ember-cli",)), "ember-cli-build.js": ""},
        "npm run build",
        "dist",
        spa=True,
    ),
    Scaffold(
        "solid",
        {"package.json": package("vite build", "solid-js", dev=("vite", "vite-plugin-solid")), "index.html": ""},
        "npm run build",
        "dist",
        spa=True,
    ),
    Scaffold(
        "qwik",
        {
            "package.json": package(
                "qwik build",
                dev=("@builder.io/qwik", "@builder.io/qwik-city", "vite"),
                scripts={"build": "qwik build", "build.server": "vite build -c adapters/static/vite.config.ts"},
            ),
            "adapters/static/vite.config.ts": "",
        },
        "npm run build",
        "dist",
    ),
    Scaffold(
        "lit",
        {"package.json": package("vite build", "lit", dev=("vite",)), "index.html": ""},
        "npm run build",
        "dist",
        spa=True,
    ),
    Scaffold("hugo", {"hugo.toml": "publishDir = 'www'", "content/a.md": ""}, "hugo --gc --minify", "www"),
    Scaffold("hugo", {"config.toml": "", "themes/x/theme.toml": ""}, "hugo --gc --minify", "public"),
    Scaffold("jekyll", {"_config.yml": "", "Gemfile": "", "index.md": ""}, "bundle exec jekyll build", "_site"),
    Scaffold("jekyll", {"_config.yml": "title: x\ndestination: ./out\n", "index.html": ""}, "jekyll build", "out"),
    Scaffold("hexo", {"package.json": package("hexo generate", "hexo"), "_config.yml": ""}, "npm run build", "public"),
]


@pytest.mark.parametrize("scaffold", SCAFFOLDS, ids=lambda scaffold: scaffold.framework)
def test_scaffolds(scaffold: Scaffold) -> None:
    files = dict(scaffold.files)
    if "package.json" in files:
        files |= LOCK
    recognised = of(files)
    assert recognised.framework == scaffold.framework
    assert (recognised.kind, recognised.spa) == (scaffold.kind, scaffold.spa)
    assert [step.run for step in recognised.build] == [scaffold.build]
    assert recognised.outputs[0] == scaffold.output
    assert (recognised.refusal, recognised.no_site) == ("", "")
    if "package.json" in files:
        assert recognised.install is not None
        assert recognised.install.run.startswith("npm ci")
    (why,) = found(recognised, "framework")
    assert why.file in files
    plan = make_plan(TreeInMemory(files), BuildSettings())
    assert plan.outputs[0] == scaffold.output
    assert plan.framework_spa == scaffold.spa
    # A setting of the project's own wins over each of them.
    own = of(files, build="make", output="own", spa=not scaffold.spa, install="")
    assert ([step.run for step in own.build], own.outputs, own.spa, own.install) == (
        ["make"],
        ["own"],
        not scaffold.spa,
        None,
    )


def test_every_framework_of_the_table_is_complete() -> None:
    assert len(BY_NAME) == len(FRAMEWORKS)
    for framework in FRAMEWORKS:
        assert framework.packages or framework.alone
        assert framework.outputs
        # It can be named where it isn't recognised.
        assert of({"package.json": package("x")} | LOCK, framework=framework.name).framework == framework.name


@pytest.mark.parametrize(
    ("files", "certain", "cure"),
    [
        # create-next-app's own configuration says nothing.
        (
            {
                "package.json": package("next build --turbopack", "next"),
                "next.config.ts": 'import type { NextConfig } from "next";\n\n'
                "const nextConfig: NextConfig = {\n  /* config options here */\n};\n\nexport default nextConfig;\n",
            },
            True,
            'set output: "export" in next.config',
        ),
        ({"package.json": package("next build", "next")}, True, 'set output: "export"'),
        (
            {
                "package.json": package("next build", "next"),
                "next.config.js": "const a = require('x'); module.exports = a({})",
            },
            False,
            'set output: "export"',
        ),
        ({"package.json": package("next build && node tools/static.js", "next")}, False, 'set output: "export"'),
        (
            {
                "package.json": package("vite build", dev=("@sveltejs/kit", "@sveltejs/adapter-auto", "vite")),
                "svelte.config.js": "import adapter from '@sveltejs/adapter-auto';\nexport default {}",
            },
            True,
            "use @sveltejs/adapter-static",
        ),
        (
            {
                "package.json": package("vite build", dev=("@sveltejs/kit", "@sveltejs/adapter-vercel", "vite")),
                "svelte.config.js": "import adapter from '@sveltejs/adapter-vercel';\nexport default {}",
            },
            True,
            "use @sveltejs/adapter-static",
        ),
        (
            {
                "package.json": package("astro build", "astro"),
                "astro.config.mjs": "export default defineConfig({\n  output: 'server',\n});",
            },
            False,
            'set output: "static" in astro.config',
        ),
        (
            {
                "package.json": package("react-router build", dev=("@react-router/dev",)),
                "react-router.config.ts": 'import type { Config } from "@react-router/dev/config";\n'
                "export default {\n  // Server-side render by default, to enable SPA mode set this to `false`\n"
                "  ssr: true,\n} satisfies Config;",
            },
            True,
            "set ssr: false in react-router.config",
        ),
    ],
)
def test_a_server_is_said_before_it_is_built(files: dict[str, object], certain: bool, cure: str) -> None:
    recognised = of(files | LOCK)
    assert recognised.kind == "server"
    assert bool(recognised.no_site) == certain
    assert cure in (recognised.no_site or recognised.advice[-1])
    # Who sets what is built, or where it is, knows better.
    assert of(files | LOCK, build="make").no_site == ""
    assert of(files | LOCK, output="x").no_site == ""


def test_findings_name_file_and_line() -> None:
    files: dict[str, object] = {
        "package.json": '{\n"scripts": {\n"build": "astro build"\n},\n"dependencies": {\n"astro": "^5"\n}}\n',
        "pnpm-lock.yaml": "lockfileVersion: '9.0'\n",
        "astro.config.mjs": "// outDir: 'a'\nexport default {\n  outDir: './site',\n}\n",
        ".nvmrc": "\n# Node\nv22 # and no other\n",
    }
    recognised = of(files)
    places = {finding.what: finding.place for finding in reversed(recognised.findings)}
    assert places == {
        "framework": "package.json:6",
        "manager": "pnpm-lock.yaml",
        "node": ".nvmrc:3",
        "install": "",
        "build": "package.json:3",
        "output": "astro.config.mjs:3",
    }
    assert recognised.node == "v22"
    assert "framework: astro (package.json:6: dependencies has astro)" in told(recognised)


def test_what_a_plan_file_says_is_found_in_it() -> None:
    files: dict[str, object] = {"package.json": package("x"), ".twistedipc.toml": '[build]\nnode = "20"\noutput = "o"'}
    plan = make_plan(TreeInMemory(files | LOCK), BuildSettings(node="18", build="make"))
    assert plan.recognised.node == "20"
    assert [finding.place for finding in found(plan.recognised, "node")] == [".twistedipc.toml"]
    assert [finding.place for finding in found(plan.recognised, "build")] == [""]
    assert plan.output == "o"


# -- package managers ------------------------------------------------------------------------------------------------

V1 = "# THIS IS AN AUTOGENERATED FILE. DO NOT EDIT THIS FILE DIRECTLY.\n# yarn lockfile v1\n\n\n"
V4 = '# This file is generated by running "yarn install"\n\n__metadata:\n  version: 8\n  cacheKey: 10c0\n'


@pytest.mark.parametrize(
    ("fields", "files", "manager", "install"),
    [
        ({}, LOCK, "npm", "npm ci --prefer-offline"),
        ({}, {"npm-shrinkwrap.json": "{}"}, "npm", "npm ci --prefer-offline"),
        ({}, {}, "npm", "npm install --prefer-offline"),
        ({}, {"pnpm-lock.yaml": "lockfileVersion: '9.0'\n"}, "pnpm@^10", "pnpm install --frozen-lockfile"),
        ({}, {"pnpm-lock.yaml": "lockfileVersion: '6.0'\n"}, "pnpm@^8", "pnpm install --frozen-lockfile"),
        ({}, {"yarn.lock": V1}, "yarn@^1", "yarn install --frozen-lockfile"),
        ({}, {"yarn.lock": V4}, "yarn@^4", "yarn install --immutable"),
        ({}, {"yarn.lock": "", ".yarnrc.yml": "nodeLinker: pnp\n"}, "yarn@^4", "yarn install --immutable"),
        (
            {},
            {"yarn.lock": V4, ".yarnrc.yml": "yarnPath: .yarn/releases/yarn-3.6.1.cjs\n"},
            "yarn@3.6.1",
            "yarn install --immutable",
        ),
        ({}, {"bun.lock": "{}"}, "bun@", "bun install --frozen-lockfile"),
        ({}, {"bun.lockb": b"\0"}, "bun@", "bun install --frozen-lockfile"),
        ({"packageManager": "pnpm@9.1.0"}, {"pnpm-lock.yaml": ""}, "pnpm@9.1.0", "pnpm install --frozen-lockfile"),
        ({"packageManager": "pnpm@12.0.0-rc.1"}, {}, "pnpm@12.0.0-rc.1", "pnpm install --no-frozen-lockfile"),
        ({"packageManager": "yarn@1.22.22"}, {"yarn.lock": V1}, "yarn@1.22.22", "yarn install --frozen-lockfile"),
        ({"packageManager": "yarn@4.5.0"}, {"yarn.lock": V4}, "yarn@4.5.0", "yarn install --immutable"),
        ({"packageManager": "yarn@4.5.0"}, {}, "yarn@4.5.0", "yarn install --no-immutable"),
        ({"packageManager": "bun"}, {}, "bun@", "bun install"),
        ({"packageManager": "npm@10.8.2"}, LOCK | {"yarn.lock": V1}, "npm@10.8.2", "npm ci"),
        ({"packageManager": ""}, LOCK, "npm", "npm ci"),
        ({"packageManager": {"name": "pnpm"}}, LOCK, "npm", "npm ci"),
        ({"devEngines": {"packageManager": {"name": "pnpm", "version": "^9"}}}, {}, "pnpm@^9", "pnpm install"),
        ({"devEngines": {"packageManager": [{"name": "yarn"}, {"name": "npm"}]}}, LOCK, "npm", "npm ci"),
        ({"devEngines": {"runtime": {"name": "node"}}}, LOCK, "npm", "npm ci"),
        # Several lock files, and nothing says which one counts: npm's is the one that is made by mistake.
        ({}, LOCK | {"pnpm-lock.yaml": ""}, "pnpm@", "pnpm install --frozen-lockfile"),
        ({}, LOCK | {"deno.lock": ""}, "npm", "npm ci"),
    ],
)
def test_managers(fields: dict[str, Any], files: dict[str, object], manager: str, install: str) -> None:
    recognised = of({"package.json": package("x", **fields)} | files)
    assert recognised.refusal == ""
    assert recognised.manager is not None
    name, at, version = manager.partition("@")
    assert recognised.manager.name == name
    if at:
        assert recognised.manager.version == version
    assert recognised.install is not None
    assert recognised.install.run.startswith(install)
    assert recognised.build[-1].run == f"{name} run build"
    assert recognised.needs == [name]
    locked = [path for path in files if path not in (".yarnrc.yml", "deno.lock")]
    assert (recognised.manager.lock in locked) if locked else recognised.manager.lock == ""
    if not locked:
        assert any("There is no lock file" in sentence for sentence in recognised.advice)


def test_the_hash_of_a_manager_is_kept() -> None:
    recognised = of({"package.json": package("x", packageManager="pnpm@9.1.0+sha512.0af1")})
    assert recognised.manager is not None
    assert (recognised.manager.version, recognised.manager.integrity) == ("9.1.0", "sha512.0af1")


@pytest.mark.parametrize(
    ("fields", "files", "sentence"),
    [
        ({"packageManager": "npm@file:../x"}, {}, "nothing is run that is fetched from an address"),
        ({"packageManager": "yarn@https://example.org/y.tgz"}, {}, "it must be a name and a version"),
        ({"packageManager": "$(id)"}, {}, "it must be a name and a version"),
        ({"packageManager": "@pnpm/exe@9.1.0"}, {}, 'packageManager names "@pnpm/exe"'),
        ({"packageManager": "vlt@1.0.0"}, LOCK, 'packageManager names "vlt"'),
        ({"packageManager": "npm@10.8.2"}, {"pnpm-lock.yaml": ""}, "packageManager names npm, but pnpm-lock.yaml is a"),
        (
            {"packageManager": "pnpm@9.1.0"},
            LOCK,
            "packageManager names pnpm, but package-lock.json is a lock file of npm",
        ),
        ({}, {"deno.lock": ""}, "deno.lock is a lock file of Deno"),
    ],
)
def test_managers_that_are_refused(fields: dict[str, Any], files: dict[str, object], sentence: str) -> None:
    files = {"package.json": package("x", **fields)} | files
    assert sentence in of(files).refusal
    with pytest.raises(BadPlan):
        make_plan(TreeInMemory(files), BuildSettings())
    # With steps of one's own it is all theirs, and by a setting the manager is chosen.
    assert make_plan(TreeInMemory(files | {".twistedipc.toml": "[build]\nsteps = ['a']"}), BuildSettings()).steps
    assert of(files, manager="bun").refusal == ""


# -- Node ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "node", "place"),
    [
        ({".nvmrc": "22\n"}, "22", ".nvmrc:1"),
        ({".nvmrc": "lts/iron"}, "lts/iron", ".nvmrc:1"),
        ({".nvmrc": "lts/*\r\n"}, "lts/*", ".nvmrc:1"),
        ({".node-version": "v20.11.1\n"}, "v20.11.1", ".node-version:1"),
        ({".tool-versions": "python 3.11\nnodejs 20.11.0 # x\n"}, "20.11.0", ".tool-versions:2"),
        ({"mise.toml": '[tools]\nnode = "22"\n'}, "22", "mise.toml:2"),
        ({"package.json": package("x", volta={"node": "18.20.4"})}, "18.20.4", "package.json"),
        ({"package.json": package("x", engines={"node": ">=20 <23"})}, ">=20 <23", "package.json"),
        ({"package.json": package("x", engines={"node": ">=20"}), ".nvmrc": "22"}, "22", ".nvmrc:1"),
        (
            {"package.json": package("x", devEngines={"runtime": {"name": "node", "version": "^22"}})},
            "^22",
            "package.json",
        ),
        ({"package.json": package("x", engines={"node": 20})}, "", ""),
        ({".tool-versions": "python 3.11\n"}, "", ""),
    ],
)
def test_versions_of_node(files: dict[str, object], node: str, place: str) -> None:
    recognised = of({"package.json": package("x")} | LOCK | files)
    assert recognised.node == node
    assert [each.place.startswith(place) for each in found(recognised, "node")] == ([True] if node else [])
    assert of({"package.json": package("x")} | LOCK | files, node="24").node == "24"


def test_versions_that_are_none() -> None:
    with pytest.raises(BadPlan, match=r"\.nvmrc:1 says 'latest-and-greatest', which is no version of Node"):
        of({"package.json": package("x"), ".nvmrc": "latest-and-greatest"})
    recognised = of({"package.json": package("x", engines={"node": "$(id)"})} | LOCK)
    assert recognised.node == ""
    assert "which is no range of versions of Node" in recognised.advice[0]


# -- bad input -------------------------------------------------------------------------------------------------------


def test_a_package_json_of_five_megabytes() -> None:
    with pytest.raises(BadPlan, match=r"package\.json has more than 1048576 bytes"):
        of({"package.json": b" " * 5_000_000})


def test_a_large_lock_file_is_not_read() -> None:
    tree = TreeInMemory(
        {"package.json": package("x"), "pnpm-lock.yaml": b"lockfileVersion: '9.0'\n" + b"#" * 9_000_000}
    )
    recognised = recognise(tree, BuildSettings())
    assert recognised.manager is not None
    assert recognised.manager.version == "^10"
    assert "pnpm-lock.yaml" not in tree.reads


def test_a_root_that_is_not_there() -> None:
    with pytest.raises(BadPlan, match="there is no folder apps/web in the repository"):
        of({"package.json": package("x")}, root="apps/web")


def test_a_framework_that_is_not_known() -> None:
    with pytest.raises(BadPlan, match="framework: vita isn't one of"):
        of({"package.json": package("x")}, framework="vita")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = [
    "scripts",
    "packageManager",
    "devEngines",
    "engines",
    "volta",
    "workspaces",
    "dependencies",
    "devDependencies",
]
FILES = [
    "package.json",
    "angular.json",
    "pnpm-workspace.yaml",
    ".nvmrc",
    ".twistedipc.toml",
    "next.config.js",
    "yarn.lock",
]


@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8),
    st.dictionaries(st.sampled_from(FILES), JSON | st.binary()),
)
def test_whatever_files_say_is_a_plan_or_a_sentence(fields: dict[str, Any], files: dict[str, object]) -> None:
    with contextlib.suppress(BadPlan):
        make_plan(TreeInMemory(files | {"package.json": fields}), BuildSettings())


@given(st.dictionaries(st.sampled_from(FILES), st.binary(max_size=200), min_size=1))
def test_whatever_bytes_files_have_is_a_plan_or_a_sentence(files: dict[str, object]) -> None:
    with contextlib.suppress(BadPlan):
        make_plan(TreeInMemory(files), BuildSettings())


# -- speed -----------------------------------------------------------------------------------------------------------


def test_ten_thousand_files_take_less_than_fifty_milliseconds(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"workspaces": ["packages/*"], "scripts": {"build": "turbo build"}}')
    (tmp_path / "package-lock.json").write_text("{}\n" * 100_000)
    for number in range(100):
        folder = tmp_path / "packages" / f"p{number}"
        (folder / "src").mkdir(parents=True)
        (folder / "package.json").write_text(f'{{"name": "p{number}", "scripts": {{"build": "tsc"}}}}')
        for file in range(98):
            (folder / "src" / f"{file}.ts").touch()
    took = []
    for _ in range(5):
        began = time.thread_time()
        make_plan(FolderTree(tmp_path), BuildSettings())
        took.append(time.thread_time() - began)
    assert min(took) < 0.05


LIBRARIES: dict[str, object] = {
    "package.json": {"private": True, "workspaces": ["packages/*", "tools/*"], "devDependencies": {"vite": "^6"}},
    "packages/ui/package.json": {"name": "@t/ui", "scripts": {"build": "tsc"}, "dependencies": {"@t/base": "*"}},
    "packages/base/package.json": {"name": "@t/base", "scripts": {"build": "tsc"}, "devDependencies": {"gen": "*"}},
    "packages/plain/package.json": {"name": "plain"},
    "tools/gen/package.json": {"name": "gen", "private": True, "scripts": {"build": "tsc"}},
    "tools/other/package.json": {"name": "other", "private": True, "scripts": {"build": "tsc"}},
    "packages/demo/package.json": {"private": True, "scripts": {"build": "vite build"}, "dependencies": {"vite": "^6"}},
}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ["gen npm run build", "base npm run build", "ui npm run build"]),
        ({"turbo.json": "{}"}, [" npx --no-install turbo run build"]),
        ({"nx.json": "{}"}, [" npx --no-install nx run-many -t build"]),
        (
            {"package.json": {"private": True, "workspaces": ["packages/*"], "scripts": {"build": "x"}}},
            [" npm run build"],
        ),
    ],
)
def test_packages_that_are_published_are_built(more: dict[str, object], expected: list[str]) -> None:
    """All that they need of the workspace too; an application among them isn't the project."""
    found = of(LIBRARIES | LOCK | more, packages=["packages/*", "!packages/demo"])
    assert found.root == ""
    assert [f"{step.folder.rpartition('/')[2]} {step.run}" for step in found.build] == expected
    assert not found.refusal


@pytest.mark.parametrize("hostile", ["/* ", '"\\', "'\\", "`", "static ", "output: "])
def test_no_configuration_takes_long_to_read(hostile: str) -> None:
    """It is a stranger's, and is read before any deadline of a step."""
    text = hostile * (200_000 // len(hostile))
    tree = TreeInMemory(
        {"package.json": {"dependencies": {"next": "15", "vite": "6"}, "scripts": {"build": "next build"}}}
        | {
            "next.config.js": text,
            "vite.config.js": text,
            "pnpm-workspace.yaml": f"packages:\n- a{' ' * 200_000}b#\0\n",
        }
    )
    recognise(tree, BuildSettings())
