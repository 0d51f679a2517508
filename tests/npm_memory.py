"""
An npm registry in memory, behind the port that the client implements: with stages, and with faults by a seed. Each of
its requests can be cut before and after it is done; copies may lag behind; `watch` is called after each change, as a
reader that polls all the time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from twistedipc.publish.targets.npm.answers import Dist
from twistedipc.publish.targets.npm.package import older, read_tarball
from twistedipc.publish.targets.npm.registry import Answer, Found, Kind, Stage, Version


def sri(content: bytes) -> str:
    """An integrity."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


class Package:
    """What there is of one package."""

    def __init__(self) -> None:
        self.versions: dict[str, dict[str, Any]] = {}  # version -> dist
        self.manifests: dict[str, Mapping[str, Any]] = {}
        self.tags: dict[str, str] = {}
        self.times: dict[str, str] = {}

    def copy(self) -> Package:
        """As it is now."""
        copied = Package()
        copied.versions, copied.manifests = dict(self.versions), dict(self.manifests)
        copied.tags, copied.times = dict(self.tags), dict(self.times)
        return copied


class Faults:
    """What goes wrong, by a seed. ``left``: how often, at most."""

    def __init__(self, seed: int = 0, rate: float = 0.0, left: int = 0) -> None:
        self.random = random.Random(seed)
        self.rate = rate
        self.left = left

    def happens(self) -> bool:
        """Whether something goes wrong now."""
        if self.left <= 0 or self.random.random() >= self.rate:
            return False
        self.left -= 1
        return True


class MemoryRegistry:
    """
    The registry.

    :param stages: whether it has them
    :param reads: reads a tarball's manifest; None: as a real one is
    """

    address = "https://npm.memory.example/"

    def __init__(self, *, stages: bool = False, faults: Faults | None = None) -> None:
        self.packages: dict[str, Package] = {}
        self.stages_known = stages
        self.waiting: dict[str, Stage] = {}
        self.contents: dict[str, bytes] = {}  # of stages
        self.faults = faults or Faults()
        self.passwords: dict[str, int] = {}  # password -> how often it is taken
        self.watch: Callable[[], None] = lambda: None
        self.around: Callable[[str], None] = lambda where: None  # called before a request, when it is done, after it
        self.before: Callable[[], None] = lambda: None  # called before each request: what others do
        self.counts: Counter[str] = Counter()  # "publish NAME@VERSION" -> how often that was taken
        self.refused: Counter[str] = Counter()
        self.calls: list[str] = []
        self.loses_tags = False  # of uploads
        self.otp_to_tag = False  # a tag is set and removed with a one-time password only
        self.searches = True  # whether it can be searched
        self.answers_as: dict[str, str] = {}  # name -> the name of the package that it has in its place
        self.answers: dict[
            str, list[tuple[Answer, bool]]
        ] = {}  # request -> answers, and whether it is done all the same
        self._lagging: dict[str, tuple[Package, int]] = {}  # name -> what still shows, for so many looks
        self._stages_lagging: tuple[dict[str, Stage], int] | None = None
        self._numbers = 0
        self._read: dict[Path, tuple[str, str, Mapping[str, Any], bytes]] = {}

    # -- requests

    def look(self, name: str) -> Found | Answer:
        """See `Registry`."""
        self.calls.append(f"look {name}")
        fault = self._begin(f"look {name}", "look")
        if fault is not None:
            return fault
        package = self.packages.get(name)
        if name in self._lagging:
            package, left = self._lagging[name]
            if left <= 1:
                del self._lagging[name]
            else:
                self._lagging[name] = (package, left - 1)
        self.around("after")
        if package is None or not package.versions:
            return Answer(kind=Kind.ABSENT, status=404)
        versions = {
            each: Version(dist=msgspec.convert(dist, Dist), described=msgspec.Raw(b"{}"))
            for each, dist in package.versions.items()
        }
        return Found(
            name=self.answers_as.get(name, name), versions=versions, tags=dict(package.tags), times=dict(package.times)
        )

    def search(self, text: str) -> Sequence[str] | Answer:
        """See `Registry`."""
        self.calls.append(f"search {text}")
        fault = self._begin(f"search {text}", "search")
        self.around("after")
        if fault is not None:
            return fault
        if not self.searches:
            return Answer(kind=Kind.UNSUPPORTED, status=404)
        return [name for name, package in self.packages.items() if package.versions]

    def upload(
        self, tarball: Path, *, tag: str, access: str = "", provenance: bytes | None = None, otp: str = ""
    ) -> Answer:
        """See `Registry`."""
        name, version, manifest, content = self._open(tarball)

        def do() -> Answer:
            if version in self._of(name).versions:
                self.refused[f"publish {name}@{version}"] += 1
                return Answer(kind=Kind.TAKEN, status=403, said="it is there already")
            self._publish(name, version, manifest, content, tag)
            return Answer(kind=Kind.DONE, status=201)

        return self._request("upload", f"upload {name}@{version} {tag}", do, name)

    def has_staging(self) -> bool | Answer:
        """See `Registry`."""
        fault = self._begin("has_staging", "has_staging")
        self.around("after")
        return fault if fault is not None else self.stages_known

    def stage(self, tarball: Path, *, tag: str, access: str = "", otp: str = "") -> Stage | Answer:
        """See `Registry`."""
        name, version, _manifest, content = self._open(tarball)
        made: list[Stage] = []

        def do() -> Answer:
            if version in self._of(name).versions:
                return Answer(kind=Kind.TAKEN, status=409, said="it is there already")
            if any((each.name, each.version) == (name, version) for each in self.waiting.values()):
                return Answer(kind=Kind.TAKEN, status=409, said="it is staged already")
            self._numbers += 1
            self.counts[f"stage {name}@{version}"] += 1
            self._lag_stages()
            stage = Stage(id=f"s{self._numbers}", name=name, version=version, tag=tag, integrity=sri(content))
            self.waiting[stage.id] = stage
            self.contents[stage.id] = content
            self._read[Path(stage.id)] = self._open(tarball)
            made.append(stage)
            return Answer(kind=Kind.DONE, status=201)

        answer = self._request("stage", f"stage {name}@{version} {tag}", do, "")
        return made[0] if answer.kind is Kind.DONE else answer

    def stages(self, name: str = "") -> Sequence[Stage] | Answer:
        """See `Registry`."""
        fault = self._begin(f"stages {name}", "stages")
        self.around("after")
        if fault is not None:
            return fault
        waiting = self.waiting
        if self._stages_lagging is not None:
            waiting, left = self._stages_lagging
            self._stages_lagging = (waiting, left - 1) if left > 1 else None
        return [stage for stage in waiting.values() if not name or stage.name == name]

    def staged(self, stage_id: str) -> Stage | Answer:
        """See `Registry`."""
        fault = self._begin(f"staged {stage_id}", "staged")
        self.around("after")
        if fault is not None:
            return fault
        return self.waiting.get(stage_id) or Answer(kind=Kind.ABSENT, status=404)

    def staged_tarball(self, stage_id: str, to: Path) -> Answer:
        """See `Registry`."""
        if stage_id not in self.contents:
            return Answer(kind=Kind.ABSENT, status=404)
        to.write_bytes(self.contents[stage_id])
        return Answer(kind=Kind.DONE, status=200)

    def approve(self, stage_id: str, otp: str) -> Answer:
        """See `Registry`."""
        return self._request("approve", f"approve {stage_id}", lambda: self.approved(stage_id, otp), "")

    def reject(self, stage_id: str, otp: str) -> Answer:
        """See `Registry`."""

        def do() -> Answer:
            if not self._takes(otp):
                return _refused()
            gone = self.waiting.pop(stage_id, None)
            if gone is not None:
                self.counts[f"reject {gone.name}@{gone.version}"] += 1
            return Answer(kind=Kind.DONE if gone is not None else Kind.ABSENT)

        return self._request("reject", f"reject {stage_id}", do, "")

    def set_tag(self, name: str, tag: str, version: str, otp: str = "") -> Answer:
        """See `Registry`."""

        def do() -> Answer:
            if self.otp_to_tag and not self._takes(otp):
                return _refused()
            if version not in self._of(name).versions:
                return Answer(kind=Kind.ABSENT, status=404, said="there is no such version")
            self.packages[name].tags[tag] = version
            return Answer(kind=Kind.DONE, status=201)

        return self._request("set_tag", f"tag {name} {tag} {version}", do, name)

    def remove_tag(self, name: str, tag: str, otp: str = "") -> Answer:
        """See `Registry`."""

        def do() -> Answer:
            if self.otp_to_tag and not self._takes(otp):
                return _refused()
            gone = self._of(name).tags.pop(tag, None)
            return Answer(kind=Kind.DONE if gone is not None else Kind.ABSENT)

        return self._request("remove_tag", f"untag {name} {tag}", do, name)

    def deprecate(self, name: str, versions: Sequence[str], message: str, otp: str = "") -> Answer:
        """See `Registry`."""
        return Answer(kind=Kind.UNSUPPORTED)

    def fetch(self, name: str, version: str, to: Path, limit: int) -> Answer:
        """See `Registry`."""
        return Answer(kind=Kind.UNSUPPORTED)

    # -- what others do

    def approved(self, stage_id: str, otp: str = "", *, elsewhere: bool = False) -> Answer:
        """Somebody approves a stage."""
        stage = self.waiting.get(stage_id)
        if not elsewhere and not self._takes(otp):
            return _refused()
        if stage is None:
            return Answer(kind=Kind.ABSENT, status=404, said="there is no such stage")
        name, version, manifest, content = self._read[Path(stage_id)]
        del self.waiting[stage_id]
        self.counts[f"approve {name}@{version}"] += 1
        self._publish(name, version, manifest, content, stage.tag)
        return Answer(kind=Kind.DONE, status=200)

    def have(
        self, name: str, version: str, *, tag: str = "latest", content: bytes = b"", dist: Any = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """There is a version, as if somebody had published it before."""
        package = self._of(name)
        package.versions[version] = dist or {"integrity": sri(content)}
        package.manifests[version] = manifest or {}
        package.tags[tag] = version

    def rejected(self, stage_id: str, *, shown: int) -> None:
        """Somebody else rejects a stage, and the list of stages still shows it for so many looks."""
        self._stages_lagging = (dict(self.waiting), shown) if shown else None
        del self.waiting[stage_id]

    def settle(self) -> None:
        """No copy lags any more, and nothing goes wrong."""
        self._lagging.clear()
        self._stages_lagging = None
        self.faults.left = 0

    # -- how

    def _of(self, name: str) -> Package:
        return self.packages.setdefault(name, Package())

    def _open(self, tarball: Path) -> tuple[str, str, Mapping[str, Any], bytes]:
        if tarball not in self._read:
            found = read_tarball(tarball)
            version = found.description.version.partition("+")[0]
            self._read[tarball] = (found.description.name, version, found.manifest, tarball.read_bytes())
        return self._read[tarball]

    def _publish(self, name: str, version: str, manifest: Mapping[str, Any], content: bytes, tag: str) -> None:
        self._lag(name)
        package = self._of(name)
        assert version not in package.versions
        package.versions[version] = {"integrity": sri(content)}
        package.manifests[version] = manifest
        if not package.tags:
            package.tags["latest"] = version  # registries do this by themselves
        if not (self.loses_tags or self.faults.happens()):
            package.tags[tag] = version
        self.counts[f"publish {name}@{version}"] += 1

    def _takes(self, otp: str) -> bool:
        if self.passwords.get(otp, 0) <= 0:
            return False
        self.passwords[otp] -= 1
        return True

    def _lag(self, name: str) -> None:
        if name and name not in self._lagging and self.faults.happens():
            self._lagging[name] = (self._of(name).copy(), self.faults.random.randint(1, 4))

    def _lag_stages(self) -> None:
        if self._stages_lagging is None and self.faults.happens():
            self._stages_lagging = (dict(self.waiting), self.faults.random.randint(1, 4))

    def _begin(self, call: str, kind: str) -> Answer | None:
        self.before()
        self.around("before")
        if self.answers.get(kind):
            return self.answers[kind].pop(0)[0]
        if self.faults.happens():
            return self._fault()
        return None

    def _fault(self) -> Answer:
        chance = self.faults.random.random()
        if chance < 0.4:
            return Answer(kind=Kind.UNREACHABLE, said="the connection was cut")
        if chance < 0.8:
            return Answer(kind=Kind.BUSY, status=503, said="503")
        return Answer(kind=Kind.BUSY, status=429, said="too many requests", after=7.0)

    def _request(self, kind: str, call: str, do: Callable[[], Answer], lags: str) -> Answer:
        self.calls.append(call)
        self.before()
        self.around("before")
        if self.answers.get(kind):
            answer, done = self.answers[kind].pop(0)
            if done:
                do()
                self.watch()
            self.around("after")
            return answer
        cut: Answer | None = self._fault() if self.faults.happens() else None
        if cut is not None and (cut.status == 429 or self.faults.random.random() < 0.5):
            return cut  # before anything was done
        if lags:
            self._lag(lags)
        answer = do()
        self.watch()
        self.around("after")
        return cut if cut is not None else answer


def _refused() -> Answer:
    return Answer(kind=Kind.OTP, status=401, said="the one-time password is refused")


class Reader:
    """Somebody who installs by `latest`, after each change: notes what doesn't fit."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry
        self.unfit: list[str] = []
        self._highest: dict[str, str] = {}
        registry.watch = self.read

    def read(self) -> None:
        """Look at all packages."""
        for name, package in self._registry.packages.items():
            latest = package.tags.get("latest")
            if latest is None:
                continue
            if latest not in package.versions:
                self.unfit.append(f"latest of {name} leads to {latest}, which isn't there")
                continue
            for needed, wanted in package.manifests[latest].get("dependencies", {}).items():
                there = self._registry.packages.get(needed)
                if there is None or wanted not in there.versions:
                    self.unfit.append(f"latest of {name}, {latest}, needs {needed}@{wanted}, which isn't there")


def tarball(folder: Path, manifest: Mapping[str, Any], content: str = "") -> Path:
    """Pack a package."""
    from tests.package_registry import archive

    path = folder / f"{manifest['name'].replace('/', '-').strip('@')}-{manifest['version']}{len(content)}.tgz"
    if not path.exists():
        path.write_bytes(archive({"package.json": json.dumps(manifest), "index.js": content or "1"}))
    return path


def clean(folder: Path) -> None:
    """Forget a folder."""
    shutil.rmtree(folder, ignore_errors=True)


__all__ = ["Faults", "MemoryRegistry", "Package", "Reader", "clean", "older", "sri", "tarball"]
