"""What npm and registries answer, and what is done about it. All in memory; ``test_npm`` has a real npm."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from twistedipc.builds.attempt import Package
from twistedipc.publish.targets.npm.answers import Dist, Ran, Seen, compare, explain, read_tags, read_view
from twistedipc.publish.targets.npm.publishing import PublishFailed, Publishing

CONTENT = b"a tarball"


def sri(algorithm: str, content: bytes = CONTENT) -> str:
    """A hash as an integrity has it."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"


SHA1 = hashlib.sha1(CONTENT).hexdigest()
OTHER = b"another tarball"


# -- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ran", "expected"),
    [
        (Ran(0, '{"dist": {"integrity": "sha512-x"}}'), Seen(Dist("sha512-x"))),
        (Ran(0, '{"dist": {"integrity": null, "shasum": "aa"}, "dist-tags": {"latest": "1.0.0"}}'), None),
        (
            Ran(0, '{"dist": {}, "dist-tags": {"a": "1.0.0"}, "time": {"1.0.0": "2026", "unpublished": {}}}'),
            Seen(Dist(), {"a": "1.0.0"}, {"1.0.0": "2026"}),
        ),
        (Ran(0, ""), Seen()),
        (Ran(1, '{"error": {"code": "E404"}}'), Seen()),
        (Ran(1, "", "npm error code E404\n"), Seen()),
        (Ran(1, "", "npm ERR! code E404\n"), Seen()),
    ],
)
def test_what_npm_view_found(ran: Ran, expected: Seen | None) -> None:
    expected = expected or Seen(Dist(None, "aa"), {"latest": "1.0.0"})
    assert read_view(ran) == expected


@pytest.mark.parametrize("ran", [Ran(1, "", "npm error code ECONNREFUSED"), Ran(1, ""), Ran(0, "<html>"), Ran(0, "[]")])
def test_what_npm_view_could_not_find_out(ran: Ran) -> None:
    assert read_view(ran) is None
    assert read_tags(ran) == {}


@pytest.mark.parametrize(
    ("dist", "expected"),
    [
        (Dist(sri("sha512")), "same"),
        (Dist(sri("sha512", OTHER)), "different"),
        (Dist(sri("sha384")), "same"),
        (Dist(sri("sha256")), "same"),
        (Dist(sri("sha1")), "same"),
        (Dist(None, SHA1), "same"),
        (Dist("", SHA1.upper()), "same"),
        (Dist("", hashlib.sha1(OTHER).hexdigest()), "different"),
        # The strongest counts, wherever it stands, and whatever the weaker ones say.
        (Dist(f"{sri('sha1')} {sri('sha512')}"), "same"),
        (Dist(f"{sri('sha1', OTHER)} {sri('sha512')}"), "same"),
        (Dist(f"{sri('sha1')} {sri('sha512', OTHER)}", SHA1), "different"),
        (Dist(sri("sha256", OTHER), SHA1), "different"),
        # Several of the strongest: any of them.
        (Dist(f"{sri('sha512', OTHER)} {sri('sha512')}"), "same"),
        (Dist(f"  {sri('sha512')}?ct=application/gzip\n"), "same"),
        # What isn't known, or isn't a hash, says nothing.
        (Dist("sha3-512-AAAA"), "unknown"),
        (Dist("md5-AAAA"), "unknown"),
        (Dist("sha512-***"), "unknown"),
        (Dist("sha512-"), "unknown"),
        (Dist(f"md5-AAAA {sri('sha256')}"), "same"),
        (Dist("md5-AAAA", SHA1), "same"),
        (Dist(), "unknown"),
    ],
)
def test_content_is_compared_by_the_strongest_hash_that_both_have(tmp_path: Path, dist: Dist, expected: str) -> None:
    """A registry with `shasum` alone, or with "sha1-… sha512-…", was a conflict with the very same content."""
    path = tmp_path / "x.tgz"
    path.write_bytes(CONTENT)
    assert compare(path, dist) == expected


def failed(code: str, text: str = "") -> Ran:
    """A call of npm that failed, as it says so."""
    return Ran(
        1, f"npm notice x\nnpm error code {code}\n" + (f"npm error {code[1:]} {code[1:]} {text}\n" if text else "")
    )


@pytest.mark.parametrize(
    ("ran", "passes", "maybe_taken"),
    [
        *(
            (failed(code), True, True)
            for code in ("E500", "E503", "E429", "E408", "ECONNRESET", "ETIMEDOUT", "EAI_AGAIN")
        ),
        (failed("E409"), True, True),
        (failed("E403"), False, True),
        *(
            (failed(code), False, False)
            for code in ("E400", "E401", "E402", "E404", "E413", "E422", "ENEEDAUTH", "EOTP")
        ),
        *(
            (failed(code), False, False)
            for code in ("EUSAGE", "EPRIVATE", "EINVALIDTAGNAME", "EBADSEMVER", "EJSONPARSE")
        ),
        (failed("SELF_SIGNED_CERT_IN_CHAIN"), False, False),
        (Ran(1, "npm error You cannot publish over the previously published versions: 1.0.0."), False, True),
        (Ran(137, "npm notice x"), True, True),
    ],
)
def test_what_may_go_well_next_time(ran: Ran, passes: bool, maybe_taken: bool) -> None:
    """EUSAGE was tried three times, a minute long, before the build failed with it."""
    assert (ran.passes, ran.maybe_taken) == (passes, maybe_taken)


@pytest.mark.parametrize(
    ("ran", "sentence"),
    [
        (failed("E401", "who are you?"), "the registry doesn't take the project's token"),
        (failed("E403", "Forbidden - PUT http://r/x - policy"), "the registry forbids it (E403): Forbidden - PUT"),
        (failed("EUSAGE"), "npm says (EUSAGE)"),
        (Ran(1, "npm error Tag name must not be a valid SemVer range: 1.0\n"), "npm says: Tag name must not be"),
        (Ran(137, ""), "npm ended with exit code 137"),
        (failed("EOTP"), "one-time password"),
        (
            Ran(1, "npm error code EUSAGE\nnpm error\nnpm error Automatic provenance generation not supported\n"),
            "npm says (EUSAGE): Automatic provenance generation not supported",
        ),
    ],
)
def test_why_it_failed_is_said(ran: Ran, sentence: str) -> None:
    assert sentence in explain(ran)


# -- publishing ------------------------------------------------------------------------------------------------------


class Registry:
    """npm before a registry, which does what a test tells it to."""

    def __init__(self) -> None:
        self.versions: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, str] = {}
        self.times: dict[str, str] = {}
        self.calls: list[str] = []
        #: what the next uploads are answered, and whether they are taken: (answer, version taken, tag taken)
        self.uploads: list[tuple[Ran, bool, bool]] = []
        self.views: list[Ran] = []
        self.tag_answers: list[Ran] = []
        self.hidden = 0  # looks until anything shows

    def publish(self, version: str, *, tag: str = "latest", content: bytes = CONTENT, dist: Any = None) -> None:
        """There is a version."""
        self.versions[version] = dist or {"integrity": sri("sha512", content)}
        self.tags[tag] = version

    def show(self, *arguments: str) -> Ran:
        """`npm publish`."""
        self.calls.append("publish")
        tag = next((each[len("--tag=") :] for each in arguments if each.startswith("--tag=")), "latest")
        answer, taken, tagged = self.uploads.pop(0) if self.uploads else (Ran(0, ""), True, True)
        if taken:
            self.versions["1.1.0"] = {"integrity": sri("sha512")}
        if tagged:
            self.tags[tag] = "1.1.0"
        return answer

    def ask(self, *arguments: str) -> Ran:
        """`npm view`, `npm dist-tag add`."""
        if arguments[0] == "dist-tag":
            self.calls.append(f"tag {arguments[3]}")
            answer = self.tag_answers.pop(0) if self.tag_answers else Ran(0, "")
            if answer.code == 0:
                self.tags[arguments[3]] = arguments[2].rpartition("@")[2]
            return answer
        self.calls.append("view")
        if self.views:
            return self.views.pop(0)
        self.hidden -= 1
        _name, at, version = arguments[1].rpartition("@")
        if self.hidden >= 0 or not self.versions or (at and version not in self.versions):
            return Ran(1, "", "npm error code E404\n")
        fields: dict[str, object] = {"dist-tags": self.tags} | ({"dist": self.versions[version]} if at else {})
        fields |= {"time": self.times} if self.times and "time" in arguments else {}
        return Ran(0, json.dumps(fields if at else self.tags))


class World:
    """A package, a registry, and what publishing the one into the other comes to."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry()
        self.tarball = folder / "x.tgz"
        self.tarball.write_bytes(CONTENT)
        self.slept = 0.0
        self.notice = ""

    def publish(self, version: str = "1.1.0", tag: str = "") -> str:
        """How it went: the status, or the sentence."""
        package = Package(file="x.tgz", name="x", version=version, integrity=sri("sha512"), tag=tag)
        publishing = Publishing(self.registry, package, self.tarball, sleep=self.sleep)
        try:
            return publishing.publish()
        except PublishFailed as error:
            return str(error)
        finally:
            self.notice = publishing.notice

    def sleep(self, seconds: float) -> None:
        """Note how long the step waits."""
        self.slept += seconds


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_published(world: World) -> None:
    world.registry.publish("1.0.0")
    assert (world.publish(), world.notice) == ("published", "")
    assert world.registry.tags == {"latest": "1.1.0"}
    assert world.registry.calls == ["view", "view", "publish", "view"]
    assert world.slept == 0


def test_a_version_without_its_tag_gets_it(world: World) -> None:
    """The registry had taken the version and lost the tag; the build was green, and npm installed the old version."""
    world.registry.publish("1.0.0")
    world.registry.uploads = [(failed("E500"), True, False)]
    assert (world.publish(), world.notice) == ("published", "")
    assert world.registry.tags == {"latest": "1.1.0"}


def test_a_version_that_is_there_already_gets_its_tag(world: World) -> None:
    world.registry.publish("1.1.0", tag="other")
    world.registry.tags["latest"] = "1.0.0"
    assert (world.publish(), world.notice) == ("already-published", "")
    assert world.registry.tags["latest"] == "1.1.0"
    assert (world.publish(), world.registry.calls.count("tag latest")) == ("already-published", 1)


def test_a_tag_that_can_not_be_set_is_said(world: World) -> None:
    world.registry.publish("1.0.0")
    world.registry.uploads = [(Ran(0, ""), True, False)]
    world.registry.tag_answers = [failed("E404", "Not Found - GET http://r/-/package/x/dist-tags")]
    assert world.publish() == "published"
    assert "x@1.1.0 is in the registry, but its tag latest is at 1.0.0 and can't be set" in world.notice
    assert "npm dist-tag add x@1.1.0 latest" in world.notice


def test_a_tag_is_set_with_patience(world: World) -> None:
    world.registry.publish("1.0.0")
    world.registry.uploads = [(Ran(0, ""), True, False)]
    world.registry.tag_answers = [failed("E503"), failed("E429")]
    assert (world.publish(), world.notice) == ("published", "")
    world.registry.tags["latest"] = "1.0.0"
    world.registry.tag_answers = [failed("E503")] * 5
    assert world.publish() == "already-published"
    assert "can't be set" in world.notice
    assert world.registry.calls.count("tag latest") == 6


def test_a_tag_does_not_go_back(world: World) -> None:
    """Building an old commit again finds it published; `latest` belongs to the newer version."""
    world.registry.publish("1.1.0")
    world.registry.publish("2.0.0")
    assert world.publish() == "already-published"
    assert world.notice == "the tag latest stays at 2.0.0, which is newer than 1.1.0"
    assert world.registry.tags["latest"] == "2.0.0"


def test_a_tag_of_versions_named_by_commits_goes_by_time(world: World) -> None:
    world.registry.publish("0.0.0-f00", tag="canary")
    world.registry.publish("0.0.0-abc", tag="canary")
    world.registry.times = {"0.0.0-f00": "2026-01-01T00:00:00Z", "0.0.0-abc": "2026-01-02T00:00:00Z"}
    assert world.publish("0.0.0-f00", "canary") == "already-published"
    assert "stays at 0.0.0-abc" in world.notice
    world.registry.tags["canary"] = "0.0.0-f00"
    assert (world.publish("0.0.0-abc", "canary"), world.notice) == ("already-published", "")
    assert world.registry.tags["canary"] == "0.0.0-abc"


def test_older_than_latest_needs_a_tag_of_its_own(world: World) -> None:
    world.registry.publish("2.0.0")
    for tag in ("", "latest"):
        assert "1.1.0 is older than 2.0.0, which is `latest` now" in world.publish(tag=tag)
    assert world.publish(tag="v1") == "published"
    assert world.registry.tags == {"latest": "2.0.0", "v1": "1.1.0"}


@pytest.mark.parametrize("dist", [{"shasum": SHA1}, {"integrity": f"{sri('sha1')} {sri('sha512')}"}])
def test_the_same_content_by_other_hashes(world: World, dist: dict[str, str]) -> None:
    world.registry.publish("1.1.0", dist=dist)
    assert world.publish() == "already-published"


def test_other_content_is_a_conflict(world: World) -> None:
    world.registry.publish("1.1.0", content=OTHER)
    assert world.publish().startswith("conflict: the registry has x@1.1.0 with another content")


def test_an_unknown_kind_of_hash_is_reported(world: World) -> None:
    world.registry.publish("1.1.0", dist={"integrity": "sha3-AAAA"})
    assert "can't be compared with what was packed: it gives sha3-AAAA" in world.publish()
    assert "publish" not in world.registry.calls


def test_a_registry_that_changed_what_it_took(world: World) -> None:
    world.registry.uploads = [(Ran(0, ""), False, True)]
    world.registry.hidden = 2
    world.registry.publish("1.1.0", content=OTHER)
    assert world.publish().startswith("conflict")


def test_build_metadata_is_no_part_of_a_version_in_a_registry(world: World) -> None:
    assert (world.publish("1.1.0+build.5"), world.notice) == ("published", "")


@pytest.mark.parametrize("error", ["EUSAGE", "E401", "E402", "EOTP", "ENEEDAUTH", "EINVALIDTAGNAME", "EBADSEMVER"])
def test_what_can_not_pass_is_final_at_once(world: World, error: str) -> None:
    world.registry.uploads = [(failed(error), False, False)] * 3
    assert world.publish().startswith("x@1.1.0 isn't published: ")
    assert world.registry.calls.count("publish") == 1
    assert world.slept == 0


@pytest.mark.parametrize("error", ["E409", "E429", "E503", "ECONNRESET"])
def test_what_may_pass_is_tried_again_but_not_for_ever(world: World, error: str) -> None:
    world.registry.uploads = [(failed(error), False, False)] * 2
    assert world.publish() == "published"
    assert world.registry.calls.count("publish") == 3
    other = World(world.tarball.parent)
    other.registry.uploads = [(failed(error), False, False)] * 9
    assert other.publish() == f"x@1.1.0 isn't published: npm says ({error})"
    assert other.registry.calls.count("publish") == 3


def test_what_was_taken_may_show_later(world: World) -> None:
    world.registry.uploads = [(failed("ECONNRESET"), True, True)]
    world.registry.hidden = 4
    assert world.publish() == "published"
    assert world.registry.calls.count("publish") == 1


def test_what_was_taken_and_does_not_show(world: World) -> None:
    world.registry.hidden = 99
    assert world.publish() == "published"
    assert "doesn't show x@1.1.0 yet" in world.notice


def test_a_registry_whose_answers_can_not_be_read(world: World) -> None:
    """The registry takes uploads, and answers every GET with a page for signing in: nothing can be installed."""
    page = Ran(1, "", "npm error code FETCH_ERROR\nnpm error errno FETCH_ERROR\nnpm error invalid json response")
    world.registry.views = [failed("E404"), Ran(0, "{}"), page]
    assert "can't be asked whether x@1.1.0 is there: npm says (FETCH_ERROR): invalid json" in world.publish()
    assert world.registry.calls.count("publish") == 1
    assert world.slept == 0


def test_a_registry_that_can_not_be_reached_after_the_upload(world: World) -> None:
    world.registry.views = [failed("E404"), Ran(0, "{}"), *[failed("ECONNRESET")] * 4]
    assert world.publish() == "published"
    assert "doesn't show x@1.1.0 yet" in world.notice


def test_a_registry_that_can_not_be_asked(world: World) -> None:
    world.registry.views = [failed("ECONNREFUSED")] * 9
    assert "can't be asked whether x@1.1.0 is there: try again later" in world.publish()
    world.registry.views = [failed("E401")]
    assert world.publish().endswith("the registry doesn't take the project's token")
    assert "publish" not in world.registry.calls
