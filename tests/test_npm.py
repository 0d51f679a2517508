"""Packages, packed and published by real npm, into a small real registry."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.attempt_folder import ROOT, Attempt, repository, toml, until
from tests.node import need_node, node_path
from tests.registry import TOKEN, Fault, Registry, running
from twistedipc.builds.attempt import Package, Permit, PermitWanted, Publish, Published, Result
from twistedipc.disk.files import read_file, write_file


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as server:
        yield server


@pytest.fixture
def _npm() -> None:
    """There is an npm, on `node_path`."""
    need_node()


npm = pytest.mark.usefixtures("_npm")


def publishing(
    base: Path,
    registry: Registry,
    name: str = "1-1",
    *,
    permit: Permit | None = None,
    sources: dict[str, str] | None = None,
    set_up: str | None = None,
    settings: dict[str, str] | None = None,
    **package: object,
) -> tuple[Attempt, Result]:
    """Run an attempt that publishes a package."""
    described = {"name": "@team/widget", "version": "1.0.0", "files": ["index.js"], **package}
    repository(
        base / "source",
        {
            ".twistedipc.toml": toml("cat index.js; env"),
            "index.js": "export const answer = 42\n",
            "package.json": json.dumps(described),
            **(sources or {}),
        },
    )
    one = Attempt(
        base,
        base / "source",
        name=name,
        publish=Publish(npm=True, registry=registry.url if set_up is None else ""),
        path=node_path(),
        environment={
            "npm_config_fetch_retries": "0",
            **({"npm_config_registry": set_up} if set_up else {}),
            **(settings or {}),
        },
    )
    process = one.begin()
    until(lambda: (one.folder / "permit.wanted").exists() or process.poll() is not None, "it asks for a permit")
    if (one.folder / "permit.wanted").exists():
        wanted = read_file(one.folder / "permit.wanted", PermitWanted)
        assert wanted is not None
        assert wanted.package.name == described["name"]
        write_file(one.folder / "permit", permit or Permit(granted=True, token=TOKEN), mode=0o600)
        one.ring()
    return one, one.wait(90)


@npm
def test_published_then_already_published_then_a_conflict(tmp_path: Path, registry: Registry) -> None:
    scripts = dict.fromkeys(("postpack", "publish", "postpublish"), "touch ../never-run")
    one, result = publishing(tmp_path, registry, scripts=scripts)
    assert result.outcome == "succeeded", one.output()
    assert [step.name for step in result.steps] == ["checkout", "s0", "pack", "publish"]
    said = one.notices()
    assert "not run, since the package is published as it was packed: postpack, publish, postpublish" in said
    (published,) = result.published
    assert (published.name, published.version, published.status) == ("@team/widget", "1.0.0", "published")
    assert published.registry == registry.url
    version = registry.packages["@team/widget"]["versions"]["1.0.0"]
    assert version["dist"]["integrity"] == published.integrity
    assert not (one.folder / "never-run").exists()
    assert not (one.folder / "permit").exists()
    assert not (one.folder / "permit.wanted").exists()
    # The token was nowhere but in the one step's environment.
    everything = [path for path in one.folder.rglob("*") if path.is_file()]
    assert not [path for path in everything if TOKEN.encode() in path.read_bytes()]

    _one, again = publishing(tmp_path, registry, "1-2", scripts=scripts)
    assert again.outcome == "succeeded"
    assert [p.status for p in again.published] == ["already-published"]
    assert len(registry.uploads) == 1

    _one, other = publishing(tmp_path, registry, "2-1", sources={"index.js": "export const answer = 43\n"})
    assert other.outcome == "failed"
    assert other.reason.startswith("conflict: the registry has @team/widget@1.0.0 with another content")
    assert len(registry.uploads) == 1


@pytest.mark.long
@npm
def test_a_runner_of_the_version_before_finds_the_steps_by_the_names_that_it_knows(
    tmp_path: Path, registry: Registry
) -> None:
    """A runner goes on when the builder's program is replaced, and starts its steps from what is installed then."""
    one, result = publishing(tmp_path, registry)
    assert result.outcome == "succeeded"
    (one.folder / "package.json").unlink()
    shutil.rmtree(one.folder / "out")  # such a runner has none
    environment = {"PATH": one.spec.path, "HOME": str(one.folder / "home"), "NODE_AUTH_TOKEN": TOKEN}
    for step in ("twistedipc.publish.pack", "twistedipc.publish.npm"):
        subprocess.run([sys.executable, "-m", step, str(one.folder)], cwd=ROOT, env=environment, check=True)
    package = read_file(one.folder / "package.json", Package)
    assert package is not None
    assert package.integrity == result.published[0].integrity
    published = read_file(one.folder / "published.json", list[Published])
    assert published is not None
    assert [each.status for each in published] == ["already-published"]


@npm
def test_a_prerelease_with_its_tag(tmp_path: Path, registry: Registry) -> None:
    one, result = publishing(
        tmp_path, registry, version="2.0.0-rc.1", publishConfig={"tag": "next", "access": "public"}
    )
    assert result.outcome == "succeeded", one.output()
    # (A registry gives the first version of a package the tag latest too.)
    assert registry.packages["@team/widget"]["dist-tags"] == {"next": "2.0.0-rc.1", "latest": "2.0.0-rc.1"}


@npm
def test_refused_before_anyone_is_asked(tmp_path: Path, registry: Registry) -> None:
    one, result = publishing(tmp_path, registry, version="2.0.0-rc.1")
    assert "is a prerelease: it needs a tag of its own" in result.reason
    assert not (one.folder / "permit.wanted").exists()
    _one, result = publishing(tmp_path, registry, "1-2", publishConfig={"registry": "https://evil.example/"})
    assert "this project publishes to" in result.reason


SAY = """
import json, os, socket
with socket.socket(socket.AF_UNIX) as channel:
    channel.connect(os.environ["TWISTEDIPC_CHANNEL"])
    channel.sendall(json.dumps({"type": "mask", "value": "q7rk-41xz-9"}).encode() + b"\\n")
"""


@npm
@pytest.mark.parametrize(
    ("what", "package"),
    [
        ("the package", {"name": "@team/q7rk-41xz-9"}),
        ("the package", {"version": "1.0.0-q7rk-41xz-9", "publishConfig": {"tag": "next"}}),
        ("the package", {"publishConfig": {"tag": "q7rk-41xz-9"}}),
        ("a file of the package", {}),
    ],
)
def test_what_is_hidden_is_in_no_name_of_what_is_published(
    tmp_path: Path, registry: Registry, what: str, package: dict[str, object]
) -> None:
    """The apiserver, and then all viewers, got the name of a package with the value in it."""
    one, result = publishing(
        tmp_path,
        registry,
        sources={
            "say.py": SAY,
            "of-q7rk-41xz-9.js" if not package else "other.js": "",
            ".twistedipc.toml": toml(f"{sys.executable} say.py"),
            "package.json": json.dumps({"name": "@team/widget", "version": "1.0.0", **package}),
        },
    )
    assert result.outcome == "failed"
    assert result.reason.startswith(f"{what} has a value in its name that the build hides")
    assert not (one.folder / "permit.wanted").exists()
    assert "q7rk" not in (one.folder / "result.json").read_text()


@npm
def test_what_the_author_wants_to_be_run_before_packing_is_a_step_of_the_build(
    tmp_path: Path, registry: Registry
) -> None:
    """A package that `prepack` builds was published with package.json alone in it, and green."""
    scripts = {
        "prepare": "echo 3 >> ../order; npm_is=prepare node -e 'console.log(process.env.MODE)'",
        "prepack": "echo 2 >> ../order; mkdir -p dist && cp index.js dist/; env; (sleep 600 &)",
        "prepublishOnly": "echo 1 >> ../order",
    }
    one, result = publishing(
        tmp_path,
        registry,
        scripts=scripts,
        sources={".twistedipc.toml": toml("true", more='environment = {MODE = "of-the-project"}')},
        files=["dist"],
        main="dist/index.js",
    )
    assert result.outcome == "succeeded", one.output()
    assert [(step.name, step.command) for step in result.steps][2:5] == [
        (name, f"npm run {name}") for name in ("prepublishOnly", "prepack", "prepare")
    ]
    assert (one.folder / "order").read_text() == "1\n2\n3\n"
    assert "of-the-project" in one.output()
    assert TOKEN not in "\n".join(one.output())
    uploaded = registry.names_in("@team/widget", "1.0.0")
    assert sorted(uploaded) == ["package/dist/index.js", "package/package.json"]


@npm
def test_a_script_that_fails_ends_the_build(tmp_path: Path, registry: Registry) -> None:
    one, result = publishing(tmp_path, registry, scripts={"prepublishOnly": "exit 7", "prepare": "touch ../never-run"})
    assert (result.outcome, result.reason) == ("failed", "step prepublishOnly ended with exit code 7")
    assert not (one.folder / "permit.wanted").exists()
    assert not (one.folder / "never-run").exists()


@npm
@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ({"main": "dist/index.js", "files": ["dist"]}, "main leads to dist/index.js"),
        ({"files": ["dist"]}, "the package is empty: `files` in package.json names dist"),
        ({"dependencies": {"@team/base": "workspace:^"}}, 'dependencies["@team/base"] is "workspace:^"'),
    ],
)
def test_a_package_that_is_not_what_it_says_is_not_published(
    tmp_path: Path, registry: Registry, package: dict[str, Any], sentence: str
) -> None:
    one, result = publishing(tmp_path, registry, **package)
    assert result.outcome == "failed"
    assert sentence in result.reason
    assert not (one.folder / "permit.wanted").exists()
    assert len(registry.uploads) == 0


@pytest.mark.long
@npm
def test_a_tag_that_was_lost_is_set(tmp_path: Path, registry: Registry) -> None:
    """By real npm: the version was taken, its tag wasn't, and people went on to install the old version."""
    registry.state.have("@team/widget", "1.0.0")
    registry.state.loses_tags = True
    one, result = publishing(tmp_path, registry, "1-2", version="1.1.0")
    assert result.outcome == "succeeded", one.output()
    assert registry.packages["@team/widget"]["dist-tags"] == {"latest": "1.1.0"}
    assert [published.notice for published in result.published] == [""]
    registry.state.keeps_tags = True
    one, result = publishing(tmp_path, registry, "1-3", version="1.2.0")
    assert result.outcome == "succeeded", one.output()
    (published,) = result.published
    assert "its tag latest is at 1.1.0 and can't be set" in published.notice
    assert published.notice in one.notices()


@pytest.mark.long
@npm
def test_npms_global_settings_reach_no_registry(tmp_path: Path, registry: Registry) -> None:
    """The settings lie beside Node, where a build may be able to write: a proxy that they named got the token."""
    prefix = tmp_path / "prefix"
    (prefix / "etc").mkdir(parents=True)
    evil = "http://127.0.0.1:9/"
    (prefix / "etc" / "npmrc").write_text(f"proxy={evil}\nhttps-proxy={evil}\nregistry={evil}\n@team:registry={evil}\n")
    settings = {"npm_config_prefix": str(prefix)}
    one, result = publishing(tmp_path, registry, settings=settings)
    assert result.outcome == "succeeded", one.output()
    assert [each.headers["authorization"] for each in registry.uploads] == [f"Bearer {TOKEN}"]
    # Nor where the registry is the one that npm is set up for.
    one, result = publishing(tmp_path, registry, "1-2", settings=settings, set_up=registry.url)
    (published,) = result.published
    assert (published.status, published.registry) == ("already-published", registry.url), one.output()


@pytest.mark.long
@npm
def test_older_than_latest(tmp_path: Path, registry: Registry) -> None:
    registry.state.have("@team/widget", "2.0.0")
    _one, result = publishing(tmp_path, registry, version="1.9.0")
    assert "1.9.0 is older than 2.0.0, which is `latest` now" in result.reason
    assert len(registry.uploads) == 0


@pytest.mark.long
@npm
def test_an_error_of_an_upload_that_was_taken_all_the_same(tmp_path: Path, registry: Registry) -> None:
    registry.faults.then(Fault.FAIL_AFTER)
    _one, result = publishing(tmp_path, registry)
    assert result.outcome == "succeeded"
    assert [p.status for p in result.published] == ["published"]


@npm
def test_a_token_that_isn_t_taken(tmp_path: Path, registry: Registry) -> None:
    one, result = publishing(tmp_path, registry, permit=Permit(granted=True, token="another-token"))
    assert result.outcome == "failed"
    assert (
        result.reason
        == "@team/widget@1.0.0 isn't published: the registry doesn't take the project's token (401: who are you?)"
    )
    assert "another-token" not in "\n".join(one.output())


@npm
def test_not_permitted(tmp_path: Path, registry: Registry) -> None:
    _one, result = publishing(tmp_path, registry, permit=Permit(granted=False, reason="the project has no npm_token"))
    assert result.outcome == "failed"
    assert result.reason == "publishing wasn't permitted: the project has no npm_token"
    assert len(registry.uploads) == 0


@npm
def test_settings_of_the_repository_and_of_the_build_reach_no_registry(tmp_path: Path, registry: Registry) -> None:
    evil = "http://127.0.0.1:9/"
    poison = f"registry={evil}\\n@team:registry={evil}\\nproxy={evil}\\nignore-scripts=false\\n"
    files = {
        ".npmrc": poison.replace("\\n", "\n"),
        ".twistedipc.toml": toml(f'for f in ~/.npmrc ../.npmrc ../../.npmrc; do printf "{poison}" >$f; done'),
    }
    one, result = publishing(tmp_path, registry, sources=files)
    assert result.outcome == "succeeded", one.output()
    assert [each.headers["authorization"] for each in registry.uploads] == [f"Bearer {TOKEN}"]


# -- several packages ------------------------------------------------------------------------------------------------


def monorepo(folder: Path, *, changed: str = "1", **more: dict[str, object]) -> None:
    """Commit a workspace of three packages, each of which needs the one before, and a private one."""
    packages: dict[str, dict[str, object]] = {
        "app": {"dependencies": {"@team/middle": "^1.0.0"}},
        "middle": {"dependencies": {"@team/base": "^1.0.0"}, "scripts": {"prepack": "cp index.js made.js"}},
        "base": {},
        "site": {"private": True},
    }
    files = {
        ".twistedipc.toml": '[build]\nsteps = ["true"]\npackages = ["packages/*"]\n',
        "package.json": '{"private": true, "workspaces": ["packages/*"]}',
    }
    for name, package in packages.items():
        described = {"name": f"@team/{name}", "version": "1.0.0", **package, **more.get(name, {})}
        files[f"packages/{name}/package.json"] = json.dumps(described)
        files[f"packages/{name}/index.js"] = f"export const {name} = {changed}\n"
    repository(folder, files)


def publishing_all(base: Path, registry: Registry, name: str, permit: Permit | None = None) -> tuple[Attempt, Result]:
    """Run an attempt that publishes the workspace."""
    one = Attempt(
        base,
        base / "source",
        name=name,
        publish=Publish(npm=True, registry=registry.url),
        path=node_path(),
        environment={"npm_config_fetch_retries": "0"},
    )
    process = one.begin()
    until(lambda: (one.folder / "permit.wanted").exists() or process.poll() is not None, "it asks for a permit")
    wanted = read_file(one.folder / "permit.wanted", PermitWanted)
    if wanted is not None:
        answer = permit or Permit(granted=True, token=TOKEN, packages=1 + len(wanted.also))
        write_file(one.folder / "permit", answer, mode=0o600)
        one.ring()
    return one, one.wait(120)


@npm
@pytest.mark.long
def test_several_packages_are_published_in_their_order_and_a_retry_goes_on(tmp_path: Path, registry: Registry) -> None:
    monorepo(tmp_path / "source")
    registry.state.refuses = {"@team/middle"}
    one, result = publishing_all(tmp_path, registry, "1-1")
    assert result.outcome == "failed"
    assert result.reason.startswith("@team/middle@1.0.0 isn't published: the registry forbids it")
    assert result.reason.endswith("(package 2 of 3)")
    assert result.published == []  # `base` is there, under the tag `build-1`
    assert [step.name for step in result.steps][2:] == ["prepack packages/middle", "pack", "publish"]
    assert "Not published, since they are private or have no name and version: packages/site" in "\n".join(one.output())

    registry.state.refuses = set()
    registry.asked.clear()
    one, result = publishing_all(tmp_path, registry, "1-2")
    assert result.outcome == "succeeded", one.output()
    assert [(each.name, each.status, each.registry) for each in result.published] == [
        ("@team/base", "already-published", registry.url),
        ("@team/middle", "published", registry.url),
        ("@team/app", "published", registry.url),
    ]
    assert registry.uploaded == ["@team/middle", "@team/app"]
    assert "package/made.js" in registry.names_in("@team/middle", "1.0.0")
    everything = [path for path in one.folder.rglob("*") if path.is_file()]
    assert not [path for path in everything if TOKEN.encode() in path.read_bytes()]

    # A new version of one: the others are as they were.
    monorepo(tmp_path / "source", middle={"version": "1.1.0"})
    registry.asked.clear()
    _one, result = publishing_all(tmp_path, registry, "2-1")
    statuses = [each.status for each in result.published]
    assert statuses == ["already-published", "published", "already-published"]
    assert registry.uploaded == ["@team/middle"]


@npm
@pytest.mark.long
def test_if_one_can_not_be_published_none_is(tmp_path: Path, registry: Registry) -> None:
    monorepo(tmp_path / "source", app={"main": "missing.js"})
    one, result = publishing_all(tmp_path, registry, "1-1")
    assert "packages/app: the package isn't what its package.json says: main leads to missing.js" in result.reason
    assert not (one.folder / "permit.wanted").exists()

    # The registry has another content of the last one.
    monorepo(tmp_path / "source", app={})
    assert publishing_all(tmp_path, registry, "1-2")[1].outcome == "succeeded"
    registry.asked.clear()
    more: dict[str, dict[str, object]] = {name: {"version": "1.1.0"} for name in ("base", "middle")}
    monorepo(tmp_path / "source", changed="2", **more)
    _one, result = publishing_all(tmp_path, registry, "1-3")
    assert result.reason.startswith("conflict: the registry has @team/app@1.0.0 with another content")
    assert result.published == []
    assert registry.uploaded == []


@npm
def test_an_apiserver_that_permits_one_package_alone(tmp_path: Path, registry: Registry) -> None:
    """One of an older version looks at the first, and says nothing of the others."""
    monorepo(tmp_path / "source")
    _one, result = publishing_all(tmp_path, registry, "1-1", Permit(granted=True, token=TOKEN))
    assert result.reason.startswith("publishing 3 packages wasn't permitted: the apiserver is of an older version")
    assert len(registry.uploads) == 0
