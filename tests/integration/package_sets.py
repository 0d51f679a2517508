"""
A set of packages of one repository that real services publish, somebody who reads the registry all the time, and what
must be so in the end. Used by the tests that kill services.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from tests.integration.node import npm
from tests.integration.platform import Platform
from tests.registry import Registry
from tests.registry.verdaccio import Verdaccio

#: package -> what the registry has of it
Document = Mapping[str, Any]

OLD, NEW = "1.0.0", "1.1.0"


class PackageSet:
    """
    A project of many packages, of which each needs the one before it by ``workspace:*``, so that its version is exact
    once pnpm has packed it. Version `OLD` of each is in the registry already.
    """

    def __init__(self, platform: Platform, name: str, registry: str, token: str, *, size: int = 20) -> None:
        self.platform = platform
        self.project = name
        self.names = [f"@{name}/p{number:02}" for number in range(size)]
        files = {
            "package.json": '{"private": true}',
            "pnpm-workspace.yaml": "packages: ['packages/*']\n",
            **{f"packages/p{number:02}/package.json": json.dumps(said) for number, said in enumerate(self.manifests())},
            **{f"packages/p{number:02}/index.js": f"export const number = {number}\n" for number in range(size)},
        }
        target = {"type": "npm", "registry": registry, "publish_at": "apiserver"}
        settings = {"packages": ["packages/*"], "manager": "pnpm@10"}
        platform.add_project(name, platform.repository(files), targets=[target], settings=settings)
        platform.api("PUT", f"/api/v1/projects/{name}/secrets/npm_token", {"value": token})
        self.builds: list[int] = []

    def manifests(self) -> list[dict[str, Any]]:
        """Their package.json, as it is in the repository."""
        return [
            {"name": name, "version": NEW, "dependencies": {self.names[number - 1]: "workspace:*"} if number else {}}
            for number, name in enumerate(self.names)
        ]

    def old(self) -> list[dict[str, Any]]:
        """package.json of the versions that are in the registry before."""
        return [
            {"name": name, "version": OLD, "dependencies": {self.names[number - 1]: OLD} if number else {}}
            for number, name in enumerate(self.names)
        ]

    def build(self) -> int:
        """Ask for a build of it; its number."""
        self.builds.append(self.platform.build(self.project))
        return self.builds[-1]

    def publications(self) -> list[dict[str, Any]]:
        """The ledger's rows of the newest build."""
        found: list[dict[str, Any]] = self.platform.api("GET", f"/api/v1/builds/{self.builds[-1]}")["publications"]
        return found

    def check(self, document: Callable[[str], Document], *, staged: bool = False) -> None:
        """All of it is published, and the ledger says what the registry has."""
        build = self.platform.api("GET", f"/api/v1/builds/{self.builds[-1]}")
        assert build["state"] == "succeeded", f"{build['reason']}\n{self.platform.log(build['id'])}"
        assert build["attempts"][-1]["complete"]
        rows = build["publications"]
        assert [row["name"] for row in rows] == self.names
        for number, row in enumerate(rows):
            there = document(row["name"])
            version = there["versions"][NEW]
            assert (row["state"], row["mode"]) == ("published", "staged" if staged else "direct"), row
            assert version["dist"]["integrity"] == row["integrity"]
            assert version.get("dependencies", {}) == ({self.names[number - 1]: NEW} if number else {})
            left = [tag for tag in there["dist-tags"] if tag != "latest"]
            assert there["dist-tags"]["latest"] == NEW
            assert not left or "can't be removed" in row["notice"], (left, row)
            assert [step for step in row["steps"] if step["ended"] is None] == []
            ended = Counter(step["step"] for step in row["steps"] if step["outcome"] in ("done", "already"))
            ways = ("stage", "approve") if staged else ("upload",)
            assert [ended[way] for way in ways] == [1] * len(ways) or len(self.builds) > 1, row["steps"]


def each_once(registry: Registry, packages: PackageSet, *, staged: bool) -> None:
    """Each was taken once, as the registry has counted."""
    once = {(name, NEW): 1 for name in packages.names}

    def count(what: str) -> dict[tuple[str, str], int]:
        return {key: value for key, value in registry.state.count(what).items() if key in once}

    wanted = {"stage": once, "approve": once} if staged else {"publish": once}
    assert {what: count(what) for what in wanted} == wanted
    assert registry.state.stages == {}


def installed(registry: str, name: str, all_of_it: list[str], folder: Path) -> None:
    """Who installs a package by npm gets all that it needs, each in its new version."""
    work = Path(tempfile.mkdtemp(dir=folder))
    (work / "package.json").write_text('{"private": true}')
    npm(work, "install", name, more={"npm_config_registry": registry, "npm_config_cache": str(work / "cache")})
    for each in all_of_it:
        assert json.loads((work / "node_modules" / each / "package.json").read_text())["version"] == NEW


class Reader(ABC, threading.Thread):
    """Somebody who looks a hundred times a second whether what `latest` leads to has all that it needs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.unfit: set[str] = set()
        self.looks = 0
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        """Look."""
        while not self._over.wait(0.01):
            self.look()
            self.looks += 1

    @abstractmethod
    def look(self) -> None:
        """Look once."""

    def stop(self) -> set[str]:
        """Look no more. Return what was found."""
        self._over.set()
        self.join()
        self.look()
        return self.unfit


def unfit(registry: Registry) -> set[str]:
    """Return what doesn't fit of what `latest` leads to in the tests' own registry, at one moment."""
    found = set()
    snapshot = registry.state.snapshot
    for name, (versions, tags) in snapshot.items():
        latest = tags.get("latest")
        if latest is None:
            continue
        if latest not in versions:
            found.add(f"latest of {name} leads to {latest}, which isn't there")
            continue
        manifest = registry.packages[name]["versions"][latest]
        for needed, wanted in manifest.get("dependencies", {}).items():
            if wanted not in snapshot.get(needed, (frozenset(), {}))[0]:
                found.add(f"{name}@{latest} needs {needed}@{wanted}")
    return found


class StateReader(Reader):
    """Looks at all packages of the tests' own registry, as they are at one moment."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        super().__init__()

    def look(self) -> None:
        """See `Reader`."""
        self.unfit |= unfit(self._registry)


class HttpReader(Reader):
    """
    Looks at one package after the other by requests, and then at the one that it needs. Versions stay, so what is
    missing in the second answer was missing in the moment of the first one.
    """

    def __init__(self, registry: Verdaccio, names: list[str]) -> None:
        self._host = urlsplit(registry.url).netloc
        self._names = names
        self._next = 0
        self._connection = http.client.HTTPConnection(self._host, timeout=20)
        super().__init__()

    def _read(self, name: str) -> Document:
        self._connection.request("GET", f"/{quote(name, safe='@')}", headers={"Accept": "application/json"})
        found: Document = json.loads(self._connection.getresponse().read())
        return found

    def look(self) -> None:
        """See `Reader`."""
        name = self._names[self._next % len(self._names)]
        self._next += 1
        found = self._read(name)
        latest = found["dist-tags"]["latest"]
        for needed, wanted in found["versions"][latest].get("dependencies", {}).items():
            if wanted not in self._read(needed)["versions"]:
                self.unfit.add(f"{name}@{latest} needs {needed}@{wanted}")
