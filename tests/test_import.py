"""What other hosts' configuration becomes here, and what is said of what can't be carried over."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tests.trees import TreeInMemory
from twistedipc.builds.plan import make_plan
from twistedipc.builds.recognition.tree import MAX_FILE
from twistedipc.builds.settings import BuildSettings
from twistedipc.builds.site.rules import HeaderRule, Redirect
from twistedipc.cli.importing.commands import Kind, kind_of
from twistedipc.cli.importing.everything import import_all
from twistedipc.cli.importing.imported import Imported
from twistedipc.cli.importing.positions import Unreadable, read_yaml
from twistedipc.cli.importing.written import as_toml
from twistedipc.cli.imports import import_settings

VERCEL = """
    {
      "$schema": "https://openapi.vercel.sh/vercel.json",
      "framework": "sveltekit-1",
      "buildCommand": "npm run build:web",
      "installCommand": "npm ci",
      "outputDirectory": "dist/web",
      "cleanUrls": true,
      "build": {
        "env": {
          "VITE_API": "https://api.example.org",
          "SENTRY_AUTH_TOKEN": "@sentry-token"
        }
      },
      "rewrites": [
        { "source": "/api/(.*)", "destination": "https://api.example.org/$1" },
        { "source": "/(.*)", "destination": "/index.html" }
      ],
      "headers": [
        { "source": "/(.*)", "headers": [{ "key": "X-Frame-Options", "value": "DENY" }] }
      ],
      "functions": { "api/*.ts": { "memory": 1024 } },
      "somethingNew": 1
    }
"""

NETLIFY = """
    # the shop's site
    [build]
      base = "apps/web/"
      publish = "dist/"
      command = "npm ci && npm run lint && npm run build"
      functions = "netlify/functions"
      ignore = "git diff --quiet $CACHED_COMMIT_REF $COMMIT_REF apps/web"

    [build.environment]
      NODE_VERSION = "v20.11"
      PNPM_VERSION = "9"
      NPM_FLAGS = "--legacy-peer-deps"
      HUGO_VERSION = "0.140.0"
      VITE_TITLE = "Shop \\"one\\""
      SENTRY_AUTH_TOKEN = "s3cret"
      CI = "false"

    [context.deploy-preview]
      command = "npm run build:preview"
    [context.production.environment]
      VITE_ENV = "production"

    [[redirects]]
      from = "/old/*"
      to = "/new/:splat"
    [[redirects]]
      from = "/*"
      to = "/index.html"
      status = 200

    [[headers]]
      for = "/*"
      [headers.values]
        X-Frame-Options = "DENY"

    [[plugins]]
      package = "@netlify/plugin-lighthouse"

    [dev]
      command = "vite"
"""

WORKFLOW = """
    name: Deploy
    on:
      push:
        branches: [main]
    permissions:
      pages: write
    env:
      VITE_BASE: /shop/
    jobs:
      build:
        runs-on: ubuntu-latest
        defaults:
          run:
            working-directory: ./apps/web
        steps:
          - uses: actions/checkout@v4
            with:
              fetch-depth: 0
          - uses: pnpm/action-setup@v4
            with:
              version: 9
          - uses: actions/setup-node@v4
            with:
              node-version: 20
              cache: pnpm
          - run: pnpm install --frozen-lockfile
          - name: Lint
            run: pnpm lint
          - name: Build
            env:
              VITE_VERSION: 1.10
              API_TOKEN: ${{ secrets.API_TOKEN }}
              SHA: ${{ github.sha }}
            run: |
              # two of them
              pnpm run generate
              pnpm run build
          - uses: actions/configure-pages@v5
          - uses: actions/upload-pages-artifact@v3
            with:
              path: ./apps/web/dist
      deploy:
        needs: build
        runs-on: ubuntu-latest
        steps:
          - uses: actions/deploy-pages@v4
"""


def imported(**files: str) -> Imported:
    """What is imported of these files. In their names, __ is a slash and _dot_ a dot."""
    named = {name.replace("__", "/").replace("_dot_", "."): dedent(text).strip("\n") for name, text in files.items()}
    return import_all(TreeInMemory(named))


def remarks(found: Imported) -> list[str]:
    return [str(remark) for remark in found.remarks]


def check(found: Imported, file: str, text: str, expected: dict[str, str]) -> None:
    """Check the remarks: what begins a line of the file -> what is said of that line."""
    lines = dedent(text).strip("\n").split("\n")
    for line, (part, said) in zip(remarks(found), expected.items(), strict=True):
        number = next(number for number, each in enumerate(lines, 1) if part in each)
        assert line.startswith(f"{file}:{number}: "), (line, number)
        assert said in line


def test_vercel() -> None:
    found = imported(vercel_dot_json=VERCEL)
    assert found.settings == {
        "framework": "sveltekit",
        "build": "npm run build:web",
        "output": "dist/web",
        "clean_urls": True,
        "spa": True,
    }
    assert found.environment == {"VITE_API": "https://api.example.org"}
    assert found.headers == [HeaderRule(source="/*", values=[("X-Frame-Options", "DENY")])]
    check(found, "vercel.json", VERCEL, {
        '"SENTRY_AUTH_TOKEN"': "SENTRY_AUTH_TOKEN is a secret",
        '"/api/': "the rewrite of /api/(.*) to https://api.example.org/$1 isn't carried over: 200 with another host",
        '"functions"': "no functions",
        '"somethingNew"': "somethingNew is nothing",
    })  # fmt: skip


def test_netlify() -> None:
    found = imported(netlify_dot_toml=NETLIFY)
    assert found.settings == {
        "root": "apps/web",
        "output": "dist",
        "build": "npm run lint && npm run build",
        "node": "20.11",
        "manager": "pnpm@9",
        "spa": True,
    }
    assert found.environment == {"VITE_TITLE": 'Shop "one"'}
    assert found.redirects == [Redirect(source="/old/*", target="/new/:splat")]
    assert found.headers == [HeaderRule(source="/*", values=[("X-Frame-Options", "DENY")])]
    check(found, "netlify.toml", NETLIFY, {
        "functions =": "functions", "ignore =": "set `watch`", "NPM_FLAGS": "legacy-peer-deps=true into .npmrc",
        "HUGO_VERSION": "HUGO_VERSION", "SENTRY_AUTH_TOKEN": "SENTRY_AUTH_TOKEN",
        "build:preview": "command of the context deploy-preview", "VITE_ENV": "VITE_ENV, for production builds alone",
        "[[plugins]]": "@netlify/plugin-lighthouse",
    })  # fmt: skip
    assert "s3cret" not in as_toml(found) + "".join(remarks(found))


def test_a_workflow() -> None:
    found = imported(_dot_github__workflows__pages_dot_yml=WORKFLOW)
    assert found.settings == {
        "root": "apps/web",
        "manager": "pnpm@9",
        "node": "20",
        "build": "pnpm run generate && pnpm run build",
        "output": "dist",
    }
    assert found.environment == {"VITE_BASE": "/shop/", "VITE_VERSION": "1.10"}
    check(found, ".github/workflows/pages.yml", WORKFLOW, {
        "run: pnpm lint": "pnpm lint", "API_TOKEN:": "API_TOKEN is a secret", "SHA:": "github.sha",
    })  # fmt: skip


def test_a_workflow_of_the_older_kind() -> None:
    found = imported(
        _dot_github__workflows__test_dot_yml="""
        jobs:
          test:
            strategy: {matrix: {node: [18, 20, 22]}}
            steps: [{uses: actions/checkout@v4}, {run: npm ci}, {run: npm test}]
        """,
        _dot_github__workflows__site_dot_yaml="""
        on: push
        jobs:
          site:
            container: node:20
            strategy:
              matrix:
                node-version: [18.x, 20.x]
            steps:
              - uses: actions/checkout@v4
                with:
                  repository: acme/other
              - uses: actions/setup-node@v4
                with:
                  node-version: ${{ matrix.node-version }}
                  registry-url: https://npm.example.org
              - run: npm ci --legacy-peer-deps
              - run: cd docs && npm run build
                if: github.ref == 'refs/heads/main'
              - run: |
                  for f in docs/dist/*; do
                    gzip -k "$f"
                  done
              - run: echo ${{ github.sha }} > docs/dist/version
              - uses: acme/minify@v1
              - uses: peaceiris/actions-gh-pages@v4
                with:
                  github_token: ${{ secrets.GITHUB_TOKEN }}
                  publish_dir: docs/dist
        """,
    )
    assert found.settings["node"] == "20.x"
    assert found.settings["install"] == "npm ci --legacy-peer-deps"
    assert found.settings["output"] == "docs/dist"
    build = str(found.settings["build"])
    assert build.startswith("set -e\ncd docs && npm run build\nfor f in docs/dist/*; do\n")
    said = "\n".join(remarks(found))
    for part in (
        "test.yml:3: the job test isn't carried over", "container of the job", "repository of the checkout",
        "the last is carried over", "project registry add", "the condition of a step", "there is no github.sha here",
        "the action acme/minify",
    ):  # fmt: skip
        assert part in said


def test_a_workflow_that_releases_nothing() -> None:
    test = "jobs: {t: {steps: [{run: npm ci}, {run: npm test}]}}"
    found = imported(_dot_github__workflows__test_dot_yml=test)
    assert as_toml(found) == ""
    assert remarks(found) == [
        ".github/workflows/test.yml: builds nothing that could be released, so nothing of it is carried over"
    ]


def test_redirects_and_headers() -> None:
    found = imported(
        public___redirects="# all\n/old /new 301\n/a /b 302 Country=de\n/*  /index.html  200\n",
        _headers="/*\n  X-Frame-Options: DENY\n/a\n  Set-Cookie: y\n",
    )
    assert found.settings == {"spa": True}
    said = remarks(found)
    assert [line.split(" ")[0] for line in said] == ["_headers:4:", "public/_redirects:3:"]
    assert "fails the build: Set-Cookie can't be set" in said[0]
    assert "fails the build: Country: the platform doesn't know" in said[1]


def test_a_rule_with_a_condition_is_no_single_page_application() -> None:
    for rule in (
        '{"source": "/(.*)", "destination": "/index.html", "has": [{"type": "host", "value": "x"}]}',
        '{"source": "/(.*)", "destination": "https://example.org/$1"}',
    ):
        found = imported(vercel_dot_json=f'{{"rewrites": [{rule}]}}')
        assert found.settings == {}
        assert len(found.remarks) == 1
    assert imported(_redirects="/* /index.html 302").settings == {}
    assert imported(vercel_dot_json='{"rewrites": [{"source": "/app/(.*)", "destination": "/"}]}').settings == {}


def redirects(found: Imported) -> list[tuple[str, str, int, bool]]:
    return [(rule.source, rule.target, rule.status, rule.force) for rule in found.redirects]


def test_rules_of_netlify() -> None:
    text = """
        [[redirects]]
          from = "/store"
          to = "/shop/:id"
          status = 302
          force = true
          query = {id = ":id"}
        [[redirects]]
          from = "/gone"
          status = 410
        [[redirects]]
          from = "/de/*"
          to = "/deutsch/:splat"
          conditions = {Country = ["de"], Language = ["de"]}
        [[redirects]]
          from = "/api/*"
          to = "https://api.example.org/:splat"
          status = 200
          headers = {X-From = "Netlify"}
        [[redirects]]
          from = "/fn"
          to = "/.netlify/functions/x"
          status = 200
        [[redirects]]
          to = "/nothing"
        [[headers]]
          for = "/assets/*"
          [headers.values]
            Cache-Control = '''
            public,
            max-age=3600'''
            Basic-Auth = "me:secret"
        [[headers]]
          for = "no path"
          [headers.values]
            X-A = "b"
    """
    found = imported(netlify_dot_toml=text)
    assert found.redirects == [
        Redirect(source="/store", target="/shop/:id", status=302, force=True, query={"id": ":id"}),
        Redirect(source="/gone", status=410),
    ]
    assert found.headers == [HeaderRule(source="/assets/*", values=[("Cache-Control", "public, max-age=3600")])]
    said = remarks(found)
    assert len(said) == 6
    for line, words in zip(
        sorted(said, key=lambda each: int(each.split(":")[1])),
        (
            "netlify.toml:10: the redirect of /de/* to /deutsch/:splat isn't carried over: it depends on the visitor "
            "(Country, Language)",
            "the redirect of /api/* to https://api.example.org/:splat isn't carried over: it is for proxying",
            "/.netlify/functions/x is a function of Netlify's",
            "the redirect of  to /nothing isn't carried over",
            "the header Basic-Auth for /assets/* isn't carried over: Basic-Auth can't be set: passwords aren't asked",
            "the header X-A for no path isn't carried over",
        ),
        strict=True,
    ):
        assert words in line


def test_rules_of_vercel() -> None:
    text = """
    {
      "trailingSlash": false,
      "redirects": [
        { "source": "/old", "destination": "/new", "permanent": true },
        { "source": "/news/:path*", "destination": "/blog/:path*" },
        { "source": "/a/(.*)", "destination": "https://example.org/$1", "statusCode": 301 },
        { "source": "/u/:id/posts/:post", "destination": "/users/:id?post=$2" },
        { "source": "/post/:id(\\\\d+)", "destination": "/p/:id" },
        { "source": "/:lang(en|de)/x", "destination": "/x" },
        { "source": "/b", "destination": "/c", "has": [{ "type": "host", "value": "x.org" }] },
        { "source": "/d", "destination": "/e", "statusCode": 306 }
      ],
      "rewrites": [
        { "source": "/app/:path*", "destination": "/app/index.html" }
      ],
      "headers": [
        { "source": "/assets/(.*)", "headers": [{ "key": "Cache-Control", "value": "public, max-age=60" }] },
        { "source": "/:id/(.*)", "headers": [{ "key": "Link", "value": "</a>" }, { "key": "Vary", "value": "x" }] },
        { "source": "/(.*)\\\\.js", "headers": [{ "key": "X-A", "value": "b" }] }
      ],
      "routes": [{ "src": "/x", "dest": "/y" }]
    }
    """
    found = imported(vercel_dot_json=text)
    assert found.settings == {"trailing_slash": "never"}
    assert redirects(found) == [
        ("/old", "/new", 308, True),
        ("/news/*", "/blog/:splat", 307, True),
        ("/a/*", "https://example.org/:splat", 301, True),
        ("/u/:id/posts/:post", "/users/:id?post=:post", 307, True),
        ("/app/*", "/app/index.html", 200, False),
    ]
    assert found.headers == [
        HeaderRule(source="/assets/*", values=[("Cache-Control", "public, max-age=60")]),
        HeaderRule(source="/:id/*", values=[("Link", "</a>")]),
    ]
    check(found, "vercel.json", text, {
        "/post/": "isn't carried over: its address is a regular expression", "/:lang(": "is a regular expression",
        '"/b"': "it has conditions (has, missing)", '"/d"': "the status 306 can't be given",
        '"Vary"': "the header Vary for /:id/* isn't carried over: Vary can't be set", ".js": "is a regular expression",
        '"routes"': "routes aren't carried over: say them as redirects, rewrites and headers, which are",
    })  # fmt: skip


def test_rules_that_are_carried_over_are_those_of_a_build() -> None:
    """What is printed is read as it was meant."""
    into = imported(netlify_dot_toml=NETLIFY, vercel_dot_json=VERCEL.replace('"framework": "sveltekit-1",', ""))
    into.redirects.append(Redirect(source="/s", target="/t/:id", status=302, force=True, query={"a.b": ":id"}))
    into.headers.append(HeaderRule(source="/x", values=[("Link", '</a>; rel="preload"'), ("Link", "</b>")]))
    text = as_toml(into)
    plan = make_plan(TreeInMemory({".twistedipc.toml": text, "apps/web/index.html": "x"}), BuildSettings())
    serving = plan.site
    assert serving.clean_urls is True
    assert [msgspec.structs.replace(rule, place="") for rule in serving.redirects] == into.redirects
    assert [msgspec.structs.replace(rule, place="") for rule in serving.headers] == into.headers


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
                        st.sampled_from(["source", "destination", "headers", "key", "value", "statusCode", "has", "x"]),
                        inner, max_size=6), max_leaves=20))  # fmt: skip
def test_any_rule_is_carried_over_or_remarked_on(rule: object) -> None:
    for key in ("redirects", "rewrites", "headers"):
        text = json.dumps({key: [rule]})
        found = import_all(TreeInMemory({"vercel.json": text.encode()}))
        tomllib.loads(as_toml(found))


def test_what_was_found_first_stays() -> None:
    found = imported(
        vercel_dot_json='{"outputDirectory": "out"}', netlify_dot_toml='[build]\npublish = "dist"\ncommand = "make"'
    )
    assert found.settings == {"output": "out", "build": "make"}
    assert remarks(found) == ["netlify.toml:2: dist isn't carried over as output: out was found before"]


@pytest.mark.parametrize(
    ("files", "remark"),
    [
        ({"vercel_dot_json": "{"}, "vercel.json: isn't JSON"),
        ({"vercel_dot_json": '{"framework": "blitzjs"}'}, "vercel.json:1: the framework blitzjs isn't carried over"),
        ({"vercel_dot_json": "[]"}, "vercel.json: has no object in it"),
        ({"vercel_dot_json": "[" * 100_000}, "vercel.json: isn't JSON"),
        ({"vercel_dot_json": "x" * (MAX_FILE + 1)}, "vercel.json: isn't read: vercel.json has more than"),
        (
            {"vercel_dot_json": '{"outputDirectory": "../x"}'},
            "vercel.json:1: ../x isn't carried over: output: it must be",
        ),
        ({"netlify_dot_toml": "a = "}, "netlify.toml: isn't TOML"),
        ({"netlify_dot_toml": '[build.environment]\nTWISTEDIPC_X = "y"'}, "netlify.toml:2: TWISTEDIPC_X isn't carried"),
        (
            {"netlify_dot_toml": '[build.environment]\nNODE_VERSION = "a/b@c"'},
            "netlify.toml:2: a/b@c isn't carried over",
        ),
        ({"_dot_github__workflows__a_dot_yml": "a: [b"}, ".github/workflows/a.yml: isn't YAML (line 1)"),
        ({"_dot_github__workflows__a_dot_yml": "a: !!python/object:os.system x\njobs: 1"}, "a.yml: builds nothing"),
    ],
)
def test_what_can_not_be_read_is_said(files: dict[str, str], remark: str) -> None:
    found = imported(**files)
    assert any(remark in line for line in remarks(found)), remarks(found)
    assert as_toml(found) == ""


def test_anchors_can_not_make_a_file_large() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{after}: &{after} [{','.join([f'*{before}'] * 10)}]\n"
        for before, after in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(Unreadable, match="too many values"):
        read_yaml(bomb.encode())
    with pytest.raises(Unreadable):
        read_yaml(b"a: &a\n  b: *a\n")  # it has itself in it


def test_marks_of_editors() -> None:
    found = import_all(
        TreeInMemory(
            {
                "vercel.json": b'\xef\xbb\xbf{"outputDirectory": "dist"}',
                "netlify.toml": b"\xef\xbb\xbf[build]\r\ncommand = 'make'\r\n",
                ".github/workflows/a.yml": b"\xef\xbb\xbfjobs:\r\n  a:\r\n    steps:\r\n      - run: npm run build\r\n",
            }
        )
    )
    assert found.settings["output"] == "dist"
    assert found.settings["build"] == "make"


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("npm ci", "needless"),
        ("yarn", "needless"),
        ("pnpm i --frozen-lockfile", "needless"),
        ("corepack enable", "needless"),
        ("npm install --force", "install"),
        ("npm install -D vite", "install"),
        ("npm test", "check"),
        ("pnpm lint", "check"),
        ("npm run test:unit -- --run", "check"),
        ("npx playwright test", "check"),
        ("npx wrangler pages deploy dist", "deploy"),
        ("npm run build", "build"),
        ("npx vite build && netlify build", "build"),
        ("make site", "build"),
    ],
)
def test_kinds_of_commands(command: str, kind: Kind) -> None:
    assert kind_of(command) == kind


@given(
    st.dictionaries(
        st.sampled_from(["build", "install"]), st.text(min_size=1, max_size=60).filter(lambda t: "\0" not in t)
    ),
    st.dictionaries(
        st.from_regex(r"VITE_[A-Z]{1,8}", fullmatch=True), st.text(max_size=60).filter(lambda t: "\0" not in t)
    ),
)
def test_what_is_written_is_what_was_found(settings: dict[str, str], environment: dict[str, str]) -> None:
    """Whatever characters are in it."""
    into = Imported()
    for key, value in settings.items():
        into.set(key, value, "x", 1)
    for name, value in environment.items():
        into.set_variable(name, value, "x", 1)
    build = tomllib.loads(as_toml(into)).get("build", {})
    assert build.pop("environment", {}) == into.environment
    assert build == into.settings
    msgspec.convert(build, BuildSettings)


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    (tmp_path / "netlify.toml").write_text(dedent(NETLIFY))
    printed = CliRunner().invoke(import_settings, [str(tmp_path)])
    assert printed.exit_code == 0
    assert tomllib.loads(printed.stdout)["build"]["root"] == "apps/web"
    assert tomllib.loads(printed.stdout)["site"]["redirects"] == [{"from": "/old/*", "to": "/new/:splat"}]
    assert "netlify.toml:7: functions aren't carried over" in printed.stderr
    written = CliRunner().invoke(import_settings, [str(tmp_path), "--write"])
    assert (written.exit_code, written.stdout) == (0, "")
    assert (tmp_path / ".twistedipc.toml").read_text() == printed.stdout
    again = CliRunner().invoke(import_settings, [str(tmp_path), "--write"])
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_the_command_without_anything_to_read(tmp_path: Path) -> None:
    (tmp_path / "vercel.json").mkdir()
    for options in ([], ["--write"]):
        found = CliRunner().invoke(import_settings, [str(tmp_path), *options])
        assert found.exit_code == 2
        assert "has no vercel.json" in found.stderr
    both = CliRunner().invoke(import_settings, [str(tmp_path), "--write", "--project", "shop"])
    assert both.exit_code == 2
