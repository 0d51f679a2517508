"""publint: brought by the builder, run on what was packed, and never a reason for a build to fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests import package_registry
from tests.node import need_node
from tests.package_registry import PackageRegistry, archive, integrity
from tests.test_evidence import packed
from twistedipc.builds.attempt import Package, Spec, ToolSettings
from twistedipc.builds.lint import MAX_MESSAGES, Linted, LintedPackage, Linter, Message, bounded
from twistedipc.publish.targets.npm import linting
from twistedipc.publish.targets.npm.linting import lint
from twistedipc.runner.tools import Tools
from twistedipc.toolchains import linter
from twistedipc.toolchains.fetch import Fetching
from twistedipc.toolchains.linter import UNANSWERED, Part
from twistedipc.toolchains.ready import ready
from twistedipc.toolchains.wanted import Toolchain, Wanted

#: What stands for publint: it repeats what a package's file `say.json` says.
PUBLINT = """
export async function publint({pack, pkgDir}) {
  const text = pack.files.find(({name}) => name === `${pkgDir}/say.json`)?.data ?? "[]";
  const said = JSON.parse(text);
  if (said === "hang") await new Promise((resolve) => setTimeout(resolve, 60_000));
  if (said === "die") process.exit(3);
  return {messages: said, pkg: {name: "p"}};
}
"""
UTILS = "export const formatMessage = (message, pkg) => `${pkg.name}: ${message.code}`;"
FILES = {
    "package.json": json.dumps({"name": "publint", "version": "1.0.0", "type": "module",
                                "exports": {".": "./index.js", "./utils": "./utils.js"}}),
    "index.js": PUBLINT,
    "utils.js": UTILS,
}  # fmt: skip


class World:
    """A builder with a registry that has something by publint's name."""

    def __init__(self, folder: Path, registry: PackageRegistry) -> None:
        self.folder, self.registry = folder, registry
        self.settings = ToolSettings(folder=str(folder / "store"), registry=registry.url, publint=True)
        self.time = 1_700_000_000_000
        self.said: list[str] = []

    def ready(self) -> Toolchain | None:
        machine = package_registry.machine()
        return ready(Wanted(linter=True), self.settings, {}, machine, home=self.folder, now=lambda: self.time)

    def prepare(self) -> Linter:
        fetching = Fetching(self.settings, {}, "", package_registry.machine(), self.folder, say=self.said.append,
                            now=lambda: self.time, sleep=lambda seconds: None)  # fmt: skip
        found = fetching.prepare(Wanted(linter=True)).linter
        assert found is not None
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with package_registry.running() as registry:
        data = registry.add("publint", "1.0.0", archive(FILES))
        monkeypatch.setattr(linter, "PARTS", (Part("publint", "1.0.0", integrity(data)),))
        monkeypatch.setattr("twistedipc.toolchains.fetch.PARTS", linter.PARTS)
        yield World(tmp_path, registry)


def test_it_is_fetched_once(world: World) -> None:
    assert world.ready() is None, "the step has to fetch it"
    found = world.prepare()
    assert (found.version, found.why) == ("1.0.0", "")
    assert (Path(found.packages["publint"]) / "index.js").read_text() == PUBLINT
    asked = len(world.registry.asked)
    again = world.ready()
    assert again is not None
    assert again.linter == found
    assert world.prepare() == found
    assert len(world.registry.asked) == asked
    assert [line for line in world.said if "fetching publint 1.0.0" in line]


def test_a_registry_that_has_another_one_by_this_name_is_not_believed(world: World) -> None:
    world.registry.add("publint", "1.0.0", archive({**FILES, "index.js": "evil"}))
    found = world.prepare()
    assert found.packages == {}
    assert found.why.startswith("it can't be fetched: ")
    assert not (world.folder / "store" / "entries").exists() or not any((world.folder / "store/entries").iterdir())


def test_without_it_builds_go_on_and_the_registry_is_asked_once_an_hour(world: World) -> None:
    del world.registry.packages["publint"]
    assert "it can't be fetched" in world.prepare().why
    asked = len(world.registry.asked)
    found = world.ready()
    assert found is not None
    assert found.linter == Linter(why="it isn't in the builder's store, and couldn't be fetched within the last hour")
    assert len(world.registry.asked) == asked
    world.time += UNANSWERED
    assert world.ready() is None


@pytest.mark.parametrize(("changed", "why"), [({"offline": True}, "may fetch nothing"), ({"publint": False}, "off")])
def test_where_it_may_not_be_fetched(world: World, changed: dict[str, bool], why: str) -> None:
    world.settings = msgspec.structs.replace(world.settings, **changed)
    found = world.ready()
    assert found is not None
    assert found.linter is not None
    assert why in found.linter.why
    assert world.registry.asked == []


def test_a_project_that_asks_for_no_tools_is_given_it_alone(world: World, tmp_path: Path) -> None:
    node = need_node()
    spec = Spec(attempt="7-1", lease="", build=7, project="p", repository="", ref="", path=str(node), environment={},
                mirror="", doorbell="", tools=world.settings)  # fmt: skip
    tools = Tools(tmp_path, spec, Wanted(manager="npm", linter=True), now=lambda: world.time)
    assert tools.ready() is None
    assert tools.wanted == Wanted(linter=True)
    world.prepare()
    found = tools.ready()
    assert found is not None
    assert found.linter is not None
    assert (found.path, found.said, found.linter.version) == ([], [], "1.0.0")
    none = Tools(tmp_path, msgspec.structs.replace(spec, tools=None), Wanted(linter=True), now=lambda: world.time)
    assert none.ready() == Toolchain(linter=Linter(why="this builder brings no tools"))


# -- what it says


def package(out: Path, number: int, say: object = None, **files: bytes) -> Package:
    name = f"{number}.tgz"
    members = [("package.json", b"{}"), ("say.json", json.dumps(say).encode()), *files.items()]
    packed(out / name, [each for each in members if each[0] != "say.json" or say is not None])
    return Package(file=name, name=f"p{number}", version="1.0.0", integrity="")


def looked(world: World, *packages: Package) -> Linted:
    return lint(world.prepare(), world.folder, packages)


def test_what_it_says_of_each_package(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(need_node()), prepend=":")
    said = [{"type": "error", "code": "BAD"}, {"type": "suggestion", "code": "x" * 1000}, {"type": "new", "code": "y"}]
    found = looked(
        world,
        package(world.folder, 0, said),
        package(world.folder, 1, [{"type": "warning", "code": str(number)} for number in range(60)]),
        package(world.folder, 2, "no list"),
        package(world.folder, 3),
    )
    assert found.version == "1.0.0"
    first, second, third, fourth = found.packages
    assert (first.target, first.name, first.messages[0]) == ("npm", "p0", Message(level="error", text="p: BAD"))
    assert [len(each.text) for each in first.messages] == [6, 400], "what isn't known is left out"
    assert (len(second.messages), second.more) == (50, 10)
    assert "not a function" in third.why
    assert fourth == LintedPackage(target="npm", name="p3", version="1.0.0")
    output = capsys.readouterr().out
    assert "publint, p0: error: p: BAD\n" in output
    assert "publint hasn't looked at p2: " in output


def test_one_that_dies_or_takes_too_long_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(need_node()), prepend=":")
    good = [{"type": "error", "code": "BAD"}]
    found = looked(world, package(world.folder, 0, good), package(world.folder, 1, "die"), package(world.folder, 2))
    assert [each.why for each in found.packages] == ["", *["publint ended with exit code 3"] * 2]
    monkeypatch.setattr(linting, "DEADLINE", 1.0)
    found = looked(world, package(world.folder, 0, good), package(world.folder, 1, "hang"))
    assert [(len(each.messages), each.why) for each in found.packages] == [(1, ""), (0, "publint took longer than 1 s")]


def test_without_node_or_without_it_nothing_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    found = looked(world, package(world.folder, 0))
    assert [each.why for each in found.packages] == ["there is no node on the builder's PATH"]
    assert lint(Linter(why="it is off"), world.folder, []) == Linted(why="it is off")
    assert "can't be started" in lint(Linter(packages={"publint": "/nonexistent"}), world.folder, []).why


def test_what_is_too_large_is_not_given_to_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(need_node()), prepend=":")
    monkeypatch.setattr(linting, "MAX_TEXTS", 100)
    large = package(world.folder, 0, **{"a.js": b"x" * 90})
    monkeypatch.setattr(linting, "MAX_FILES", 3)
    many = package(world.folder, 1, b=b"", c=b"", d=b"")
    (world.folder / "2.tgz").write_bytes(b"no tarball")
    broken = Package(file="2.tgz", name="p2", version="1.0.0", integrity="")
    found = looked(world, msgspec.structs.replace(large), many, broken, package(world.folder, 3))
    assert [each.why.partition(":")[0] for each in found.packages] == [
        "", "it has more than 3 files", "the package's tarball can't be read", "",
    ]  # fmt: skip
    monkeypatch.setattr(linting, "MAX_TEXTS", 50)
    assert "more than 50 bytes of code" in looked(world, large).packages[0].why


def test_of_many_messages_the_errors_are_kept() -> None:
    many = [Message(level="suggestion", text=str(number)) for number in range(MAX_MESSAGES)]
    one = LintedPackage(target="npm", name="a", version="1", messages=[*many, Message(level="warning", text="w")])
    two = LintedPackage(target="npm", name="b", version="1", messages=[Message(level="error", text="e")], more=1)
    found = bounded(Linted(version="1", packages=[one, two]))
    assert [(len(each.messages), each.more) for each in found.packages] == [(MAX_MESSAGES - 1, 2), (1, 1)]
    assert found.packages[0].messages[-1].text == "w"
    assert bounded(found) == found
    assert found.about("npm", "b", "1") == found.packages[1]
    assert found.about("npm", "c", "1").why == "nothing is known of it"
