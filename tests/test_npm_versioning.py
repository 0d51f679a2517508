"""The versions that a build gives its packages: what changes of the repository, and what changesets is to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_npm_selection import files, package, plan
from tests.trees import TreeInMemory
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.versions import Canary, Chosen, Versioning
from twistedipc.publish.targets.npm import changesets
from twistedipc.publish.targets.npm.json_strings import with_strings
from twistedipc.publish.targets.npm.target import Npm, NpmSettings
from twistedipc.publish.targets.npm.versioning import versioned
from twistedipc.publish.targets.target import Versioned

CANARY = Canary(tag="pr-12", identifier="pr12", number=3)


def raised(tree: dict[str, object], bump: str = "patch", *, manager: str = "npm", **more: Any) -> Versioned:
    wanted = Versioning(bump=bump, **more)
    version = "4.0.0" if manager == "yarn" else ""
    return versioned(TreeInMemory(tree), plan("packages/*", manager=manager, version=version), wanted)


def edited(found: Versioned, path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(found.edits[path])
    return content


# -- strings in a file

KEYS = st.text(alphabet='ab"\\\n é{}[],:', max_size=4)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), KEYS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)


def paths(value: object, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The keys that lead to the strings that are in no list."""
    if isinstance(value, str):
        return [above]
    return (
        [path for key, each in value.items() for path in paths(each, (*above, key))] if isinstance(value, dict) else []
    )


def put(value: Any, path: tuple[str, ...], new: str) -> Any:
    return {**value, path[0]: put(value[path[0]], path[1:], new)} if path else new


@given(st.dictionaries(KEYS, JSON, max_size=4), st.data(), KEYS, st.sampled_from([None, 2, "\t"]), st.booleans())
def test_one_string_is_replaced_and_nothing_else(
    content: dict[str, Any], data: st.DataObject, new: str, indent: int | str | None, ascii_only: bool
) -> None:
    before = json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode()
    assert with_strings(before, {}) == before
    there = paths(content)
    if not there:
        return
    path = data.draw(st.sampled_from(there))
    after = with_strings(before, {path: new, ("not", "there"): "x"})
    wanted = put(content, path, new)
    if ("not", "there") in there:
        wanted = put(wanted, ("not", "there"), "x")
    assert json.loads(after) == wanted
    assert after.count(b"\n") == before.count(b"\n")


def test_a_file_keeps_its_form() -> None:
    before = (
        b'\xef\xbb\xbf{\r\n\t"name" : "a",\r\n\t"version":"1.0.0" , "x": [ "version", {"version": "1.0.0"} ]\r\n}\r\n\n'
    )
    assert with_strings(before, {("version",): "1.0.1"}) == before.replace(b'"version":"1.0.0"', b'"version":"1.0.1"')


# -- versions


def test_all_public_packages_are_raised_each_from_its_own_version() -> None:
    found = raised(
        files(
            a=package("@acme/a"),
            b=package("@acme/b", version="2.3.4-beta.1"),
            private=package("@acme/private", private=True, dependencies={"@acme/a": "1.0.0", "react": "1.0.0"}),
        ),
        "minor",
    )
    assert found.chosen == {"@acme/a": Chosen(version="1.1.0"), "@acme/b": Chosen(version="2.4.0")}
    assert edited(found, "packages/a/package.json")["version"] == "1.1.0"
    assert edited(found, "packages/private/package.json")["dependencies"] == {"@acme/a": "1.1.0", "react": "1.0.0"}
    assert sorted(found.edits) == [f"packages/{name}/package.json" for name in ("a", "b", "private")]
    assert found.said == ["@acme/a: 1.0.0 becomes 1.1.0", "@acme/b: 2.3.4-beta.1 becomes 2.4.0"]


def test_another_attempt_gives_what_the_first_gave_and_another_build_gives_another() -> None:
    tree = files(a=package("a"), b=package("b"))
    found = raised(tree, fixed={"a": "1.0.7"}, taken={"a": ["1.0.1"], "b": ["1.0.1", "1.0.2"]})
    assert {name: each.version for name, each in found.chosen.items()} == {"a": "1.0.7", "b": "1.0.3"}
    assert found.said[0] == "a: 1.0.0 becomes 1.0.7, as an earlier attempt of this build has it"


@pytest.mark.parametrize(
    ("manager", "group", "before", "after"),
    [
        ("npm", "dependencies", "1.0.0", "1.0.1"),
        ("npm", "dependencies", "^1.0.0", "^1.0.1"),
        ("npm", "devDependencies", "~1.0.0", "~1.0.1"),
        ("npm", "dependencies", "=1.0.0", "=1.0.1"),
        ("npm", "dependencies", ">=1.0.0", ">=1.0.0"),
        ("npm", "dependencies", "1.x || 2", "1.x || 2"),
        ("npm", "dependencies", "*", "*"),
        ("npm", "dependencies", "latest", "latest"),
        ("npm", "dependencies", "file:../a", "file:../a"),
        ("npm", "dependencies", "npm:a@^1.0.0", "npm:a@^1.0.1"),
        ("npm", "peerDependencies", "^1.0.0", "^1.0.0"),
        ("npm", "peerDependencies", "1.0.0", "1.0.1"),
        ("pnpm", "dependencies", "workspace:^", "workspace:^"),
        ("pnpm", "dependencies", "workspace:*", "workspace:*"),
        ("pnpm", "dependencies", "workspace:~1.0.0", "workspace:~1.0.1"),
        ("bun", "dependencies", "workspace:^", "^1.0.1"),
        ("bun", "dependencies", "workspace:*", "1.0.1"),
        ("yarn", "dependencies", "workspace:^", "workspace:^"),
        ("yarn", "dependencies", "^1.0.0", "^1.0.0"),
    ],
)
def test_what_others_say_of_it_follows(manager: str, group: str, before: str, after: str) -> None:
    tree = files(a=package("a"), b=package("b", **{group: {"a": before, "other": "1.0.0"}}))
    found = edited(raised(tree, manager=manager), "packages/b/package.json")
    assert found[group] == {"a": after, "other": "1.0.0"}


@pytest.mark.parametrize(
    ("manager", "before", "after"),
    [
        ("npm", "^1.0.0", "1.0.1-pr12.3"),
        ("npm", "*", "1.0.1-pr12.3"),
        ("npm", "latest", "1.0.1-pr12.3"),
        ("npm", "file:../a", "file:../a"),
        ("npm", "npm:a@1", "npm:a@1.0.1-pr12.3"),
        ("pnpm", "workspace:^", "workspace:1.0.1-pr12.3"),
        ("bun", "workspace:^", "1.0.1-pr12.3"),
        ("yarn", "workspace:^", "workspace:^"),
    ],
)
def test_a_canary_is_pinned_to_the_others_of_its_build(manager: str, before: str, after: str) -> None:
    tree = files(a=package("a"), b=package("b", dependencies={"a": before}))
    found = raised(tree, "", manager=manager, canary=CANARY)
    assert edited(found, "packages/b/package.json")["dependencies"] == {"a": after}
    assert found.chosen["a"] == Chosen(version="1.0.1-pr12.3", tag="pr-12")


def test_the_lock_file_follows_too() -> None:
    lock = {
        "name": "top",
        "packages": {
            "": {"workspaces": ["packages/*"]},
            "packages/a": {"name": "a", "version": "1.0.0"},
            "packages/b": {"name": "b", "version": "1.0.0", "dependencies": {"a": "1.0.0", "react": "1.0.0"}},
            "node_modules/a": {"resolved": "packages/a", "link": True},
        },
    }
    tree = files(a=package("a"), b=package("b", dependencies={"a": "1.0.0"})) | {"package-lock.json": lock}
    found = edited(raised(tree), "package-lock.json")
    assert found["packages"]["packages/a"]["version"] == "1.0.1"
    assert found["packages"]["packages/b"] == {
        "name": "b",
        "version": "1.0.1",
        "dependencies": {"a": "1.0.1", "react": "1.0.0"},
    }


def test_a_single_package_and_its_lock_file() -> None:
    lock = {"name": "a", "version": "1.0.0", "packages": {"": {"name": "a", "version": "1.0.0"}}}
    tree = TreeInMemory({"package.json": package("a"), "package-lock.json": lock})
    found = versioned(tree, Plan(steps=[]), Versioning(bump="major"))
    assert edited(found, "package.json")["version"] == "2.0.0"
    locked = edited(found, "package-lock.json")
    assert (locked["version"], locked["packages"][""]["version"]) == ("2.0.0", "2.0.0")


def test_a_prerelease_has_the_tag_of_its_line_unless_package_json_has_one() -> None:
    own = {"publishConfig": {"tag": "edge"}}
    latest = {"publishConfig": {"tag": "latest"}}
    tree = files(a=package("a"), b=package("b", **own), c=package("c", **latest))
    found = raised(tree, "prerelease:beta")
    assert {name: each.tag for name, each in found.chosen.items()} == {"a": "beta", "b": "", "c": "beta"}


@pytest.mark.parametrize(
    ("tree", "bump", "sentence"),
    [
        ({}, "patch", "there is no package.json, so there is no version to raise"),
        ({"package.json": {"name": "a"}}, "patch", "package.json has no version to raise"),
        ({"package.json": {"name": "a", "version": 1}}, "patch", "package.json has no version to raise"),
        (
            {"package.json": package("a", version="1.0")},
            "patch",
            "package.json: the version '1.0' isn't a version like",
        ),
        ({"package.json": package("a")}, "prerelease", "package.json: 1.0.1-0 is a prerelease, and needs a tag"),
        ({"package.json": package("a", version="1.0.0-latest.1")}, "prerelease", "is a prerelease, and needs a tag"),
    ],
)
def test_what_has_no_version_to_raise(tree: dict[str, object], bump: str, sentence: str) -> None:
    with pytest.raises(BadPlan) as caught:
        versioned(TreeInMemory(tree), Plan(steps=[]), Versioning(bump=bump))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("manager", "spec", "sentence"),
    [
        ("npm", "1.0.x || 3", 'dependencies["a"] is "1.0.x || 3", which doesn\'t admit a 2.0.0. Widen it'),
        ("yarn", "1.0.0", "yarn's lock file has it as it is: write workspace:^ there"),
    ],
)
def test_a_range_that_cant_follow(manager: str, spec: str, sentence: str) -> None:
    with pytest.raises(BadPlan) as caught:
        raised(files(a=package("a"), b=package("b", dependencies={"a": spec})), "major", manager=manager)
    assert sentence in str(caught.value)


# -- changesets


def with_changesets(*pending: str, installed: bool = True, more: dict[str, object] | None = None) -> dict[str, object]:
    tree = files(a=package("a"), b=package("b")) | {".changeset/config.json": {}, ".changeset/README.md": "Hello"}
    tree |= {f".changeset/{name}.md": '---\n"a": minor\n---\n\nIt does more.\n' for name in pending}
    return tree | ({"node_modules/.bin/changeset": ""} if installed else {}) | (more or {})


def planned(tree: dict[str, object], *, manager: str = "npm") -> Versioned:
    version = "4.0.0" if manager == "yarn" else ""
    return changesets.planned(TreeInMemory(tree), plan("packages/*", manager=manager, version=version))


def test_what_is_pending_is_made_by_the_projects_own_tool() -> None:
    found = planned(with_changesets("blue-fish", "red-cat"))
    assert found.tool is not None
    assert (found.tool.run, found.tool.folder) == ("node_modules/.bin/changeset version", "")
    assert found.said == ["2 changesets are pending: blue-fish, red-cat"]
    assert found.before == {"a": "1.0.0", "b": "1.0.0"}
    assert {"package.json", "packages/a/package.json", "packages/a/CHANGELOG.md"} < set(found.files)
    assert ".changeset/blue-fish.md" in found.files


def test_a_script_of_the_project_that_makes_versions_is_run_unless_it_does_more() -> None:
    def run(manager: str = "npm", **scripts: str) -> str:
        found = planned(with_changesets("x", more={"package.json": {"scripts": scripts, **TOP}}), manager=manager)
        assert found.tool is not None
        return found.tool.run

    script = "changeset version && npm install --package-lock-only"
    assert run(versions=script) == "npm run versions"
    assert run("pnpm", versions=script) == "pnpm run versions"
    assert run(release="changeset version && changeset publish") == "node_modules/.bin/changeset version"
    assert run(ship="changeset version && git push") == "node_modules/.bin/changeset version"


TOP: dict[str, object] = {"private": True, "workspaces": ["packages/*"]}


def test_yarn_without_node_modules_runs_it_itself() -> None:
    top: dict[str, object] = {"package.json": {**TOP, "devDependencies": {"@changesets/cli": "^2"}}}
    found = planned(with_changesets("x", installed=False, more=top), manager="yarn")
    assert found.tool is not None
    assert found.tool.run == "yarn run changeset version"


def test_nothing_pending_is_nothing_to_do() -> None:
    pre: dict[str, object] = {".changeset/pre.json": {"mode": "pre", "tag": "next", "changesets": ["x"]}}
    for tree in (with_changesets(installed=False), with_changesets("x", more=pre)):
        found = planned(tree)
        assert found.tool is None
        assert found.chosen == {name: Chosen(version="1.0.0", settled=True) for name in "ab"}
        assert found.said == ["no changesets are pending: what is published is what isn't in the registry yet"]
    pre = {".changeset/pre.json": {"mode": "exit", "tag": "next", "changesets": ["x"]}}
    assert planned(with_changesets("x", more=pre)).tool is not None


def test_what_the_tool_has_raised_isnt_settled() -> None:
    tree = with_changesets(more={"packages/a/package.json": package("a", version="1.1.0")})
    found = changesets.made(TreeInMemory(tree), plan("packages/*"), {"a": "1.0.0", "b": "1.0.0"})
    assert found.chosen == {"a": Chosen(version="1.1.0"), "b": Chosen(version="1.0.0", settled=True)}
    assert found.said == ["a: 1.0.0 becomes 1.1.0"]


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        (files(a=package("a")), "there is no .changeset/config.json, so changesets makes no versions here"),
        (
            with_changesets(more={".changeset/config.json": "{"}),
            "`.changeset/config.json` can't be read, so changesets",
        ),
        (
            with_changesets(more={".changeset/config.json": "[]"}),
            "`.changeset/config.json` can't be read, so changesets",
        ),
        (
            with_changesets(more={".changeset/pre.json": '{"mode": 1}'}),
            "`.changeset/pre.json` can't be read, so changesets",
        ),
        (
            with_changesets("x", installed=False),
            "changesets isn't installed, so there are no versions: package.json needs",
        ),
    ],
)
def test_a_project_for_which_changesets_can_do_nothing(tree: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadPlan) as caught:
        planned(tree)
    assert sentence in str(caught.value)


def test_the_request_counts_more_than_the_project_and_previews_make_no_versions() -> None:
    tree, settings = TreeInMemory(with_changesets()), NpmSettings(versions="changesets")

    def said(settings: NpmSettings, bump: str, *, production: bool) -> str:
        found = Npm().versions(settings, tree, plan("packages/*"), Versioning(bump=bump), production=production)
        return found.said[0] if found is not None else ""

    assert "no changesets are pending" in said(settings, "", production=True)
    assert "no changesets are pending" in said(NpmSettings(), "changesets", production=True)
    assert said(settings, "patch", production=True) == "a: 1.0.0 becomes 1.0.1"
    assert said(settings, "", production=False) == ""
    assert said(NpmSettings(), "", production=True) == ""
