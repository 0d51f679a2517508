"""Which packages of a project are published, in which order, and by which program each is packed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trees import TreeInMemory
from twistedipc.builds.names import MAX_PACKAGES
from twistedipc.builds.plan import Plan
from twistedipc.builds.recognition.managers import MANAGERS
from twistedipc.builds.recognition.reading import BadPlan
from twistedipc.builds.recognition.recognised import ManagerWanted, Recognised
from twistedipc.publish.targets.npm.selection import Selection, in_order, select
from twistedipc.publish.targets.npm.target import Npm

NAMES = st.sampled_from("abcdefgh")


def package(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "version": "1.0.0", **more}


def files(**packages: dict[str, Any]) -> dict[str, object]:
    """A workspace: its packages by the names of their folders in ``packages``."""
    top: dict[str, object] = {"package.json": {"private": True, "workspaces": ["packages/*"]}}
    return top | {f"packages/{folder}/package.json": package for folder, package in packages.items()}


def plan(*patterns: str, inside: str = "", manager: str = "npm", version: str = "") -> Plan:
    wanted = ManagerWanted(name=manager, version=version)
    return Plan(
        steps=[], packages=list(patterns), packages_in=inside, root=inside, recognised=Recognised(manager=wanted)
    )


def selected(files: dict[str, object], *patterns: str, **more: str) -> Selection:
    return select(TreeInMemory(files), plan(*(patterns or ("packages/*",)), **more))


def folders(selection: Selection) -> list[str]:
    return [candidate.folder for candidate in selection.packages]


# -- which, and in which order


def test_each_comes_after_what_it_needs() -> None:
    found = selected(
        files(
            app=package("@acme/app", dependencies={"@acme/ui": "workspace:^", "react": "^19"}),
            ui=package("@acme/ui", peerDependencies={"@acme/base": "^1"}, devDependencies={"@acme/app": "*"}),
            zero=package("@acme/base"),
            alias=package("@acme/alias", optionalDependencies={"base": "npm:@acme/zoo@^1"}),
            zoo=package("@acme/zoo", dependencies="none"),
        )
    )
    assert folders(found) == [f"packages/{name}" for name in ("zoo", "alias", "zero", "ui", "app")]
    assert (found.remarks, found.warnings) == ([], [])
    assert found.several


def test_only_public_ones_are_published() -> None:
    found = selected(
        files(
            a=package("a"),
            b=package("b", private=True),
            c={"name": "c"},
            d={"version": "1.0.0"},
            e=package("e", version=1),
        )
        | {"packages/f/index.js": ""}
    )
    assert folders(found) == ["packages/a"]
    assert found.remarks == [
        "Not published, since they are private or have no name and version: packages/b, packages/c, packages/d, "
        "packages/e"
    ]


def test_folders_are_named_by_patterns() -> None:
    tree = files(a=package("a"), b=package("b"), old=package("old")) | {"libs/deep/c/package.json": package("c")}
    assert folders(selected(tree, "packages/*", "!packages/old")) == ["packages/a", "packages/b"]
    assert folders(selected(tree, "libs/**")) == ["libs/deep/c"]
    assert folders(selected(tree, "packages/{a,b}", "libs/*/c")) == ["packages/a", "packages/b", "libs/deep/c"]
    below = {f"web/{path}": content for path, content in tree.items()}
    assert folders(selected(below, inside="web")) == [f"web/packages/{name}" for name in ("a", "b", "old")]
    assert folders(selected({"package.json": package("a")}, ".")) == [""]


def test_without_patterns_it_is_the_projects_own_package_whatever_that_is() -> None:
    tree = TreeInMemory(files(a=package("a")))
    for root in ("", "packages/a", "packages"):
        found = select(tree, Plan(steps=[], root=root))
        assert folders(found) == [root]
        assert not found.several
    assert found.packages[0].package is None


def test_a_circle_is_named_and_published_all_the_same() -> None:
    found = selected(
        files(
            a=package("a", dependencies={"b": "*"}),
            b=package("b", dependencies={"c": "*"}),
            c=package("c", dependencies={"a": "*", "d": "*"}),
            d=package("d", dependencies={"d": "*"}),
        )
    )
    assert folders(found) == [f"packages/{name}" for name in "dabc"]
    assert found.warnings == [
        "these packages depend on one another in a circle: a → b → c → a. Until all of them are published, none can be "
        "installed"
    ]


@pytest.mark.parametrize(
    ("tree", "sentence"),
    [
        (files(), "packages = packages/*: no public package is there"),
        (files(a=package("a", private=True)), "no public package is there"),
        (
            files(a=package("x"), b=package("x")),
            "packages/a/package.json and packages/b/package.json have the same name",
        ),
        ({"packages/a/package.json": "{"}, "packages/a/package.json"),
        ({"packages/a\n/package.json": package("a")}, "can't be printed"),
        (files(**{f"p{number}": package(f"p{number}") for number in range(MAX_PACKAGES + 1)}), "100 is the most"),
    ],
)
def test_what_can_not_be_published_is_said(tree: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadPlan, match=sentence.replace("*", r"\*")):
        selected(tree)


@given(st.dictionaries(NAMES, st.sets(NAMES)))
def test_every_order_is_one(needs: dict[str, set[str]]) -> None:
    """Each name is there once, after all that it needs, but for those that need it themselves: they are in a circle."""
    order, circles = in_order(needs)
    assert sorted(order) == sorted(needs)
    reached = {name: _reached(needs, name) for name in needs}
    for name in needs:
        for needed in needs[name] & needs.keys():
            assert order.index(needed) <= order.index(name) or name in reached[needed]
    in_circles = {name for name in needs if any(other != name and name in reached[other] for other in reached[name])}
    assert all(set(circle) <= in_circles for circle in circles)
    for circle in circles:
        assert len(circle) == len(set(circle)) > 1
        assert all(after in needs[name] for name, after in zip(circle, [*circle[1:], circle[0]], strict=True))
    assert bool(circles) == bool(in_circles)
    assert in_order(dict(sorted(needs.items(), reverse=True))) == (order, circles)


def _reached(needs: dict[str, set[str]], name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for needed in needs[waiting.pop()] & needs.keys() - found:
            found.add(needed)
            waiting.append(needed)
    return found


def test_a_long_chain_is_in_order() -> None:
    needs = {f"p{number:02}": [f"p{number + 1:02}"] for number in range(MAX_PACKAGES)}
    assert in_order(needs) == (sorted(needs, reverse=True), [])


# -- what is run before they are packed


def steps(tree: dict[str, object], plan: Plan) -> list[tuple[str, str, str]]:
    return [(step.name, step.run, step.folder) for step in Npm().before_packing(TreeInMemory(tree), plan).steps]


SCRIPTS = dict.fromkeys(("prepare", "prepack", "prepublishOnly", "postpack", "publish", "build"), "true")
NEEDS = {"dependencies": {"b": "workspace:^"}}


def test_scripts_run_in_each_packages_folder() -> None:
    tree = files(a=package("a", scripts=SCRIPTS), b=package("b", scripts={"prepack": "x"}))
    assert steps(tree, plan("packages/*")) == [
        ("prepublishOnly packages/a", "npm run prepublishOnly", "packages/a"),
        ("prepack packages/a", "npm run prepack", "packages/a"),
        ("prepare packages/a", "npm run prepare", "packages/a"),
        ("prepack packages/b", "npm run prepack", "packages/b"),
    ]
    before = Npm().before_packing(TreeInMemory(tree), plan("packages/*"))
    assert before.remark == "not run, since the packages are published as they were packed: postpack, publish"
    assert steps({"package.json": package("a", scripts={"prepack": "x"})}, plan()) == [
        ("prepack", "npm run prepack", "")
    ]
    assert Npm().before_packing(TreeInMemory({}), plan()).steps == []


@pytest.mark.parametrize(
    ("manager", "version", "expected"),
    [
        (
            "pnpm",
            "10",
            [
                "pnpm run prepublishOnly",
                "pnpm run prepack",
                "pnpm run prepare",
                'mkdir -p "$TMPDIR"/packed/packages/a && '
                'pnpm pack --config.ignore-scripts=true --pack-destination "$TMPDIR"/packed/packages/a',
            ],
        ),
        (
            "yarn",
            "^4",
            [
                "yarn run prepublishOnly",
                "yarn run prepare",
                'mkdir -p "$TMPDIR"/packed/packages/a && yarn pack --out "$TMPDIR"/packed/packages/a/package.tgz',
            ],
        ),
        (
            "bun",
            "",
            [
                "bun run prepublishOnly",
                "bun run prepack",
                "bun run prepare",
                'mkdir -p "$TMPDIR"/packed/packages/a && '
                'bun pm pack --ignore-scripts --destination "$TMPDIR"/packed/packages/a',
            ],
        ),
        ("yarn", "^1", ["npm run prepublishOnly", "npm run prepack", "npm run prepare"]),
        ("npm", "", ["npm run prepublishOnly", "npm run prepack", "npm run prepare"]),
    ],
)
def test_the_projects_own_manager_packs_what_npm_would_not_replace(
    manager: str, version: str, expected: list[str]
) -> None:
    tree = files(a=package("a", scripts=SCRIPTS, **NEEDS), b=package("b"))
    found = steps(tree, plan("packages/*", manager=manager, version=version))
    assert [run for _name, run, folder in found if folder == "packages/a"] == expected
    assert [run for _name, run, folder in found if folder == "packages/b"] == []


@pytest.mark.parametrize(
    ("more", "its_own"),
    [
        ({"dependencies": {"x": "workspace:*"}}, True),
        ({"peerDependencies": {"x": "catalog:"}}, True),
        ({"optionalDependencies": {"x": "catalog:react19"}}, True),
        ({"publishConfig": {"main": "dist/index.js"}, "main": "src/index.ts"}, True),
        ({"publishConfig": {"main": "dist/index.js"}, "main": "dist/index.js"}, False),
        ({"publishConfig": {"access": "public"}}, False),
        ({"publishConfig": None, "dependencies": None, "peerDependencies": {"x": 1}}, False),
        ({"devDependencies": {"x": "workspace:*"}}, False),
        ({"dependencies": {"x": "^1.0.0"}}, False),
    ],
)
def test_npm_packs_all_others(more: dict[str, Any], its_own: bool) -> None:
    found = steps({"package.json": package("a", **more)}, plan(manager="pnpm"))
    assert [name for name, _run, _folder in found] == (["packing"] if its_own else [])


def test_every_manager_is_told_a_folder_by_the_shells_rules() -> None:
    tree: dict[str, object] = {"libs/it's $HOME/package.json": package("a", **NEEDS)}
    for manager in MANAGERS:
        if manager.name == "npm":
            continue
        ((_name, run, folder),) = steps(tree, plan("libs/*", manager=manager.name, version="4"))
        assert folder == "libs/it's $HOME"
        assert run.count("""packed/libs/it'"'"'s $HOME'""") == 2
