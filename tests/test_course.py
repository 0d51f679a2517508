"""
What is done with one package, by what its registry says; a registry in memory. ``test_course_kills`` kills it, and
``test_npm_client`` has the answers of real registries.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.course_world import PersonNeeded, PublishFailed, SetWorld
from tests.npm_memory import MemoryRegistry, Reader
from tests.npm_memory import sri as sha512
from tests.registry import OTP as PASSWORD
from tests.registry import TOKEN, running
from twistedipc.builds.attempt import Published
from twistedipc.builds.states import PublicationState
from twistedipc.publish.record import MemoryRecord, Outcome, Step
from twistedipc.publish.targets.npm.answers import Dist, compare
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.course import Course
from twistedipc.publish.targets.npm.looking import Item
from twistedipc.publish.targets.npm.registry import Answer, Kind
from twistedipc.registries.connection import Connection
from twistedipc.registries.npmrc import Npmrc

CONTENT = b"a tarball"
OTHER = b"another tarball"
REFUSED = Answer(kind=Kind.REFUSED, status=400, said="the registry won't")
CUT = Answer(kind=Kind.UNREACHABLE, said="the connection was cut")
BUSY = Answer(kind=Kind.BUSY, status=503, said="503")
LATER = Answer(kind=Kind.BUSY, status=429, said="too many", after=20.0)
OTP = Answer(kind=Kind.OTP, status=401, said="a one-time password is wanted")


def sri(algorithm: str, content: bytes = CONTENT) -> str:
    """A hash as an integrity has it."""
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"


SHA1 = hashlib.sha1(CONTENT).hexdigest()


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


# -- one package -----------------------------------------------------------------------------------------------------


class One(SetWorld):
    """One package, `p0`."""

    def publish(self, otp: str = "", **how: Any) -> str:
        """How a first run goes: the status, or the sentence."""
        self.new_attempt()
        return self.goes(otp, **how)

    def goes(self, otp: str = "", **how: Any) -> str:
        """How a run goes."""
        try:
            return self.go(otp, **how)[0].status
        except (PublishFailed, PersonNeeded) as error:
            return str(error)

    @property
    def notice(self) -> str:
        return self.rows()[0].facts.notice

    @property
    def tags(self) -> dict[str, str]:
        return self.registry.packages["p0"].tags


Make = Callable[..., One]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(size: int = 1, *, stages: bool = False, version: str = "1.1.0", tag: str = "", name: str = "") -> One:
        names = [name] if name else None
        return One(tmp_path, None, MemoryRegistry(stages=stages), size, version=version, tag=tag, names=names)

    return make


@pytest.fixture
def world(make: Make) -> One:
    return make()


def uploads(world: SetWorld) -> int:
    return sum(call.startswith("upload") for call in world.registry.calls)


def test_published(world: One) -> None:
    world.registry.have("p0", "1.0.0")
    assert (world.publish(), world.notice) == ("published", "")
    assert world.tags == {"latest": "1.1.0"}
    assert [call.split()[0] for call in world.registry.calls] == ["look", "upload", "look", "look"]
    assert world.slept == 0


def test_a_version_without_its_tag_gets_it(world: One) -> None:
    """The registry had taken the version and lost the tag; the build was green, and npm installed the old version."""
    world.registry.have("p0", "1.0.0")
    world.registry.loses_tags = True
    world.registry.answers["upload"] = [(BUSY, True)]
    assert (world.publish(), world.notice) == ("published", "")
    assert world.tags == {"latest": "1.1.0"}
    assert uploads(world) == 1


def test_a_version_that_is_there_already_gets_its_tag(world: One) -> None:
    world.registry.have("p0", "1.1.0", tag="other", dist={"integrity": world.packages[0].integrity})
    world.tags["latest"] = "1.0.0"
    assert (world.publish(), world.notice) == ("already-published", "")
    assert world.tags["latest"] == "1.1.0"
    assert (world.publish(), world.registry.calls.count("tag p0 latest 1.1.0")) == ("already-published", 1)


def test_a_tag_that_can_not_be_set_is_said(world: One) -> None:
    world.registry.have("p0", "1.0.0")
    world.registry.loses_tags = True
    world.registry.answers["set_tag"] = [(REFUSED, False)]
    assert world.publish() == "published"
    assert "p0@1.1.0 is in the registry, but its tag latest is at 1.0.0 and can't be set" in world.notice
    assert "npm dist-tag add p0@1.1.0 latest" in world.notice


def test_a_tag_is_set_with_patience(world: One) -> None:
    world.registry.have("p0", "1.0.0")
    world.registry.loses_tags = True
    world.registry.answers["set_tag"] = [(BUSY, False), (LATER, False)]
    assert (world.publish(), world.notice) == ("published", "")
    assert world.slept >= 20
    world.tags["latest"] = "1.0.0"
    world.registry.answers["set_tag"] = [(BUSY, False)] * 5
    assert world.publish() == "already-published"
    assert "can't be set" in world.notice
    assert world.registry.calls.count("tag p0 latest 1.1.0") == 6


def test_a_tag_does_not_go_back(world: One) -> None:
    """Building an old commit again finds it published; `latest` belongs to the newer version."""
    world.registry.have("p0", "1.1.0", dist={"integrity": world.packages[0].integrity})
    world.registry.have("p0", "2.0.0")
    assert world.publish() == "already-published"
    assert world.notice == "the tag latest stays at 2.0.0, which is newer than 1.1.0"
    assert world.tags["latest"] == "2.0.0"


def test_a_tag_of_versions_named_by_commits_goes_by_time(make: Make) -> None:
    first = make(version="0.0.0-f00", tag="canary")
    first.registry.have("p0", "0.0.0-f00", tag="canary", dist={"integrity": first.packages[0].integrity})
    first.registry.have("p0", "0.0.0-abc", tag="canary")
    times = {"0.0.0-f00": "2026-01-01T00:00:00Z", "0.0.0-abc": "2026-01-02T00:00:00Z"}
    first.registry.packages["p0"].times = times
    assert first.publish() == "already-published"
    assert "stays at 0.0.0-abc" in first.notice
    times["0.0.0-f00"] = "2026-01-03T00:00:00Z"
    assert (first.publish(), first.notice) == ("already-published", "")
    assert first.tags["canary"] == "0.0.0-f00"


def test_older_than_latest_needs_a_tag_of_its_own(make: Make) -> None:
    for tag in ("", "latest"):
        world = make(tag=tag)
        world.registry.have("p0", "2.0.0")
        assert "1.1.0 is older than 2.0.0, which is `latest` now" in world.publish()
    world = make(tag="v1")
    world.registry.have("p0", "2.0.0")
    assert world.publish() == "published"
    assert world.tags == {"latest": "2.0.0", "v1": "1.1.0"}


NEW_NAMES = [
    ("Widget", [], "it has capital letters"),
    ("@acme/Widget", [], "it has capital letters"),
    ("wid~get", [], 'it has "~"'),
    ("events", [], "it is the name of a module of Node's own"),
    ("node_modules", [], "package managers use it for something else"),
    ("widget", ["Widget"], "the registry has no widget yet, but Widget, and nobody can tell these names apart"),
    ("Widget", ["widget"], "the registry has no Widget yet, but widget, and nobody can tell these names apart"),
    ("widget", ["\uff37idget"], "but \uff37idget, and nobody can tell these names apart"),
    ("@acme/widget", ["@acme/WIDGET"], "but @acme/WIDGET, and nobody can tell these names apart"),
    ("fix", ["\ufb01x"], "but \ufb01x, and nobody can tell these names apart"),
]


@pytest.mark.parametrize(("name", "there", "sentence"), NEW_NAMES)
def test_a_name_that_no_new_package_can_have(make: Make, name: str, there: list[str], sentence: str) -> None:
    """Names are public, and for good. What is in the registry under such a name already is another matter."""
    world = make(name=name)
    for each in there:
        world.registry.have(each, "1.0.0")
    assert sentence in world.publish()
    assert uploads(world) == 0
    world.registry.have(name, "0.9.0")
    assert world.publish() == "published"


@pytest.mark.parametrize("name", ["widget", "@acme/widget", "@acme/events", "widget.js", "9lives", "wid_get-2"])
def test_a_name_that_a_new_package_can_have(make: Make, name: str) -> None:
    world = make(name=name)
    for each in ("widgets", "wid-get", "@acme/other", "event"):
        world.registry.have(each, "1.0.0")
    assert world.publish() == "published"


def test_the_registry_is_not_searched_for_a_name_that_it_has(make: Make) -> None:
    world = make(name="widget")
    world.registry.have("Widget", "1.0.0")
    world.registry.have("widget", "0.9.0")
    assert world.publish() == "published"
    assert "search widget" not in world.registry.calls


def test_a_registry_that_answers_with_another_package(make: Make) -> None:
    """It doesn't mind case, so what it says of the version is of another package."""
    world = make(name="Widget")
    world.registry.have("Widget", "1.1.0", content=world.tarballs[0].read_bytes())
    world.registry.answers_as["Widget"] = "widget"
    assert world.publish().startswith("the registry answers with widget where it is asked for Widget")
    assert uploads(world) == 0


@pytest.mark.parametrize("answer", [CUT, BUSY, LATER, REFUSED])
def test_a_registry_that_can_not_be_searched_now_takes_packages(
    make: Make, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It holds up nothing for long."""
    world = make(name="gadget")
    world.registry.have("Gadget", "1.0.0")
    world.registry.answers["search"] = [(answer, False)] * 5
    assert world.publish() == "published"
    assert f"The registry can't be asked for names like gadget: {answer.said}" in capsys.readouterr().out
    assert world.slept <= 45
    again = make(name="gadget")
    again.registry.have("Gadget", "1.0.0")
    again.registry.answers["search"] = [(CUT, False)]
    assert "but Gadget, and nobody can tell these names apart" in again.publish()


def test_a_registry_without_a_search_takes_packages(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """Some private ones have none."""
    world = make(name="gadget")
    world.registry.searches = False
    assert world.publish() == "published"
    assert "can't be asked for names" not in capsys.readouterr().out


def test_other_content_is_a_conflict(world: One) -> None:
    world.registry.have("p0", "1.1.0", content=OTHER)
    assert world.publish().startswith("conflict: the registry has p0@1.1.0 with another content")
    assert world.rows()[0].state is PublicationState.CONFLICT


def test_a_version_that_no_build_has_raised_stays_as_it_is(world: One) -> None:
    """Of packages whose versions changesets makes, those that it didn't raise are published where they are missing."""
    world.packages[0] = msgspec.structs.replace(world.packages[0], settled=True)
    world.registry.have("p0", "1.1.0", content=OTHER)
    world.registry.packages["p0"].tags = {"latest": "1.0.0"}  # somebody has moved it back
    assert world.publish() == "already-published"
    assert world.notice == "p0@1.1.0 is in the registry already, and stays as it is: no build has raised it since"
    assert world.tags == {"latest": "1.0.0"}
    assert uploads(world) == 0
    world.registry.packages.clear()
    assert world.publish() == "published"


def test_an_unknown_kind_of_hash_is_reported(world: One) -> None:
    world.registry.have("p0", "1.1.0", dist={"integrity": "sha3-AAAA"})
    assert "can't be compared with what was packed: it gives sha3-AAAA" in world.publish()
    assert uploads(world) == 0


@pytest.mark.parametrize("content", ["ours", "another"])
def test_published_by_somebody_else_in_the_same_second(make: Make, content: str) -> None:
    """After this build has looked, and before its upload."""
    world = make()
    dist = {"integrity": world.packages[0].integrity if content == "ours" else sha512(OTHER)}

    def other() -> None:
        if "upload" in str(world.registry.calls[-1:]) and "1.1.0" not in world.registry._of("p0").versions:
            world.registry.have("p0", "1.1.0", dist=dist)

    world.registry.before = other
    said = world.publish()
    assert said == "published" if content == "ours" else said.startswith("conflict")
    assert world.registry.counts["publish p0@1.1.0"] == 0


def test_build_metadata_is_no_part_of_a_version_in_a_registry(make: Make) -> None:
    world = make(version="1.1.0+build.5")
    assert (world.publish(), world.notice) == ("published", "")


@pytest.mark.parametrize("kind", [Kind.REFUSED, Kind.DENIED, Kind.UNSUPPORTED, Kind.ABSENT])
def test_what_can_not_pass_is_final_at_once(world: One, kind: Kind) -> None:
    world.registry.answers["upload"] = [(Answer(kind=kind, said="no"), False)] * 3
    assert world.publish() == "p0@1.1.0 isn't published: no"
    assert uploads(world) == 1
    assert world.slept == 0


@pytest.mark.parametrize("answer", [CUT, BUSY, LATER, Answer(kind=Kind.TAKEN, status=409, said="409")])
def test_what_may_pass_is_tried_again_but_not_for_ever(make: Make, answer: Answer) -> None:
    world = make()
    world.registry.answers["upload"] = [(answer, False)] * 2
    assert world.publish() == "published"
    assert uploads(world) == 3
    other = make()
    other.registry.answers["upload"] = [(answer, False)] * 9
    assert other.publish() == f"p0@1.1.0 isn't published: {answer.said}"
    assert uploads(other) == 3


def test_what_was_taken_may_show_later(world: One) -> None:
    world.registry.answers["upload"] = [(CUT, True)]
    world.registry.answers["look"] = [(Answer(kind=Kind.ABSENT), False)] * 4
    assert world.publish() == "published"
    assert uploads(world) == 1


def test_what_was_taken_and_does_not_show(world: One) -> None:
    world.registry.answers["look"] = [(Answer(kind=Kind.ABSENT), False)] * 99
    assert world.publish() == "published"
    assert "doesn't show p0@1.1.0 yet" in world.notice


def test_a_registry_whose_answers_can_not_be_read(world: One) -> None:
    """The registry takes uploads, and answers every GET with a page for signing in: nothing can be installed."""
    page = Answer(kind=Kind.REFUSED, said="it is no JSON")
    world.registry.answers["look"] = [(Answer(kind=Kind.ABSENT), False), (page, False)]
    assert "can't be asked whether p0@1.1.0 is there: it is no JSON" in world.publish()
    assert uploads(world) == 1
    assert world.slept == 0


def test_a_registry_that_can_not_be_reached_after_the_upload(world: One) -> None:
    world.registry.answers["look"] = [(Answer(kind=Kind.ABSENT), False), *[(CUT, False)] * 9]
    assert world.publish() == "published"
    assert "doesn't show p0@1.1.0 yet" in world.notice


def test_a_registry_that_can_not_be_asked(make: Make) -> None:
    world = make()
    world.registry.answers["look"] = [(CUT, False)] * 9
    assert "can't be asked whether p0@1.1.0 is there: try again later" in world.publish()
    world = make()
    world.registry.answers["look"] = [(Answer(kind=Kind.DENIED, said="it doesn't take the token"), False)]
    assert world.publish().endswith("it doesn't take the token")
    assert uploads(world) == 0


def test_a_password_that_nobody_can_be_asked_for(world: One) -> None:
    world.registry.answers["upload"] = [(OTP, False)]
    assert "the registry wants a one-time password: the project needs a token" in world.publish(asks=False)


# -- staged ----------------------------------------------------------------------------------------------------------


def test_what_is_staged_waits_for_a_person(make: Make) -> None:
    world = make(stages=True)
    world.registry.have("p0", "1.0.0")
    said = world.publish()
    assert said == "p0@1.1.0 is staged at https://npm.memory.example/: a person is to approve, with a one-time password"
    assert world.rows()[0].state is PublicationState.STAGED
    assert world.rows()[0].facts.stage == "s1"
    assert world.goes("000000") == "p0@1.1.0 can't be approved yet: the registry refuses the one-time password"
    world.registry.passwords = {"123456": 1}
    assert world.goes("123456") == "published"
    assert world.tags == {"latest": "1.1.0"}


@pytest.mark.parametrize("where", ["before", "while"])
def test_approved_elsewhere(make: Make, where: str) -> None:
    world = make(stages=True)
    world.publish()
    if where == "before":
        world.registry.approved("s1", elsewhere=True)
        assert world.goes() == "published"
        return
    world.registry.passwords = {"1": 9}
    world.registry.answers["approve"] = [(Answer(kind=Kind.ABSENT, said="no such stage"), False)]

    def other() -> None:
        if "approve" in str(world.registry.calls[-1:]):
            world.registry.approved("s1", elsewhere=True)

    world.registry.before = other
    assert world.goes("1") == "published"
    assert world.registry.counts["approve p0@1.1.0"] == 1


def test_rejected_elsewhere(make: Make) -> None:
    world = make(3, stages=True)
    world.publish()
    world.registry.passwords = {"1": 9}
    del world.registry.waiting["s2"]
    said = world.goes("1")
    assert said.startswith("p1@1.1.0 was rejected at the registry: nothing more of the set is published; p0, p2 may")
    assert [row.state.value for row in world.rows()] == ["staged", "rejected", "staged"]
    assert world.registry.counts["approve p0@1.1.0"] == 0


def test_another_content_is_staged(make: Make) -> None:
    world = make(stages=True)
    other = One(world.tarballs[0].parent / "..", None, world.registry, 0)
    assert other.packages == []
    world.publish()
    stage = world.registry.waiting["s1"]
    world.registry.waiting["s1"] = type(stage)(id="s1", name="p0", version="1.1.0", integrity=sha512(OTHER))
    assert "waits for approval in the registry already, with another content (stage s1)" in world.publish()
    assert world.rows()[0].state is PublicationState.CONFLICT


def test_a_stage_that_is_there_is_taken(make: Make) -> None:
    """An attempt before has staged it, and failed."""
    world = make(2, stages=True)
    world.publish()
    world.publish()
    assert world.registry.counts["stage p0@1.1.0"] == world.registry.counts["stage p1@1.1.0"] == 1
    world.registry.passwords = {"1": 9}
    assert world.goes("1") == "published"
    assert world.tags == {"latest": "1.1.0"}  # not `build-1`, under which the first has staged it


def test_a_stage_that_only_the_list_still_has_is_not_taken(make: Make) -> None:
    """Else the next package of the set would be staged, and could be approved, without the one that it needs."""
    world = make(2, stages=True)
    world.publish()
    first = next(iter(world.registry.waiting))
    world.registry.rejected(first, shown=3)
    world.failed("it was rejected")
    world.publish()
    assert [each.name for each in world.registry.waiting.values()] == ["p1", "p0"]
    assert first not in [row.facts.stage for row in world.rows()]


def test_staging_always_and_never(make: Make) -> None:
    world = make()
    assert "has no stages, and the project publishes by stages only" in world.publish(staging="always")
    assert uploads(world) == 0
    world = make(stages=True)
    assert world.publish(staging="never") == "published"
    assert world.registry.counts["stage p0@1.1.0"] == 0


def test_without_an_answer_about_stages_nothing_is_published(make: Make) -> None:
    world = make(stages=True)
    world.registry.answers["has_staging"] = [(BUSY, False)] * 9
    assert "can't be asked whether it has stages, so nothing is published" in world.publish()
    assert uploads(world) == 0


def test_a_newer_version_came_while_it_waited(make: Make) -> None:
    world = make(stages=True)
    world.publish()
    world.registry.have("p0", "2.0.0")
    world.registry.passwords = {"1": 1}
    assert "1.1.0 is older than 2.0.0, which is `latest` now" in world.goes("1")
    assert world.tags == {"latest": "2.0.0"}


def test_what_is_refused_is_taken_back(make: Make) -> None:
    world = make(2, stages=True)
    world.publish()
    assert "can't be taken back without a one-time password" in world.rejects("")
    world.registry.passwords = {"1": 9}
    assert world.rejects("1") == ""
    assert world.registry.waiting == {}
    assert [row.state.value for row in world.rows()] == ["rejected", "rejected"]


# -- a set -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stages", [False, True], ids=["direct", "staged"])
def test_tags_of_a_set_that_is_refused_in_the_middle_are_moved_back(make: Make, stages: bool) -> None:
    """The registry takes tags with a one-time password alone, and it has run out after the first two."""
    world = make(4, stages=stages)
    for name in world.names:
        world.registry.have(name, "1.0.0")
    world.registry.otp_to_tag = True
    world.registry.passwords = {"1": 4 * stages + 2}
    if stages:
        world.publish()
    assert "can't be tagged yet: the registry refuses the one-time password" in (
        world.goes("1") if stages else world.publish("1")
    )
    assert latest(world) == ["1.1.0", "1.1.0", "1.0.0", "1.0.0"]
    assert "can't be tagged yet: the registry wants a one-time password" in world.rejects("")
    world.registry.passwords = {"2": 2}
    assert world.rejects("2") == ""
    assert latest(world) == ["1.0.0"] * 4
    assert [row.state.value for row in world.rows()] == ["dropped"] * 4
    # A new build of them goes on with what is there.
    world.registry.passwords = {"3": 99}
    assert world.publish("3") == "already-published"
    for name in world.names:
        assert world.registry.packages[name].tags == {"latest": "1.1.0"}
        assert world.registry.counts[f"publish {name}@1.1.0"] == 1


def latest(world: SetWorld) -> list[str]:
    return [world.registry.packages[name].tags["latest"] for name in world.names]


def test_a_set_is_all_there_before_a_tag_is_moved(make: Make) -> None:
    world = make(3)
    for name in world.names:
        world.registry.have(name, "1.0.0")
    reader = Reader(world.registry)
    assert world.publish() == "published"
    assert reader.unfit == []
    changes = [call.split()[0] for call in world.registry.calls if not call.startswith("look")]
    assert changes == ["upload"] * 3 + ["tag"] * 3 + ["untag"] * 3
    assert world.tags == {"latest": "1.1.0"}
    assert [row.facts.tag_before for row in world.rows()] == ["1.0.0"] * 3


def test_tags_that_were_moved_are_moved_back(make: Make) -> None:
    world = make(3)
    for name in world.names:
        world.registry.have(name, "1.0.0")
    kept = (Answer(kind=Kind.DONE), True)
    world.registry.answers["set_tag"] = [kept, kept, (REFUSED, False)]
    said = world.publish()
    assert said.startswith("the tag latest of p2 can't be moved to 1.1.0 (the registry won't): the tags of the set are")
    assert [world.registry.packages[name].tags["latest"] for name in world.names] == ["1.0.0"] * 3
    undone = [(each.position, each.outcome) for each in world._record.steps() if each.step is Step.UNDO_TAG]
    assert undone == [(2, Outcome.ALREADY), (1, Outcome.DONE), (0, Outcome.DONE)]
    # The next run goes on with what is there.
    assert world.publish() == "already-published"
    for name in world.names:
        assert world.registry.packages[name].tags == {"latest": "1.1.0"}
        assert world.registry.counts[f"publish {name}@1.1.0"] == 1


def test_one_conflict_and_nothing_of_the_set_is_published(make: Make) -> None:
    world = make(3)
    world.registry.have("p2", "1.1.0", content=OTHER)
    assert world.publish().endswith("(package 3 of 3)")
    assert uploads(world) == 0


def test_a_set_that_does_not_show_moves_no_tag(make: Make) -> None:
    world = make(2)
    for name in world.names:
        world.registry.have(name, "1.0.0")
    absent = (Answer(kind=Kind.ABSENT), False)
    world.registry.answers["look"] = [absent] * 99
    assert "the registry doesn't show p0@1.1.0 yet, though it has taken it: no tag was moved" in world.publish()
    assert uploads(world) == 1
    assert world._record.steps()[-1].outcome is Outcome.FAILED
    assert world.registry.packages["p0"].tags["latest"] == "1.0.0"


def test_a_set_of_two_builds_leaves_no_tag(make: Make) -> None:
    """The first could not remove its own."""
    world = make(2)
    world.registry.answers["remove_tag"] = [(REFUSED, False)] * 2
    assert world.publish() == "published"
    assert "the tag build-1 of p0 can't be removed (the registry won't)" in world.notice
    assert world.publish() == "already-published"
    assert world.tags == {"latest": "1.1.0"}


# -- a registry by HTTP, with the client -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1.0", "0.0.0-rc.1"])
@pytest.mark.parametrize("size", [1, 2])
def test_a_new_package_shows_as_a_placeholder_while_its_first_version_is_staged(
    tmp_path: Path, size: int, version: str
) -> None:
    """As in the public registry: `latest` leads to 0.0.0-stage, which is no version to go back to."""
    made = SetWorld(tmp_path, None, MemoryRegistry(), size, version=version)
    with running() as registry:
        registry.state.has_placeholders = True
        client = Client(registry.url, TOKEN, Connection(Npmrc({}), {}))
        items = [
            Item(position, package, path, client)
            for position, (package, path) in enumerate(zip(made.packages, made.tarballs, strict=True))
        ]

        def go(record: MemoryRecord, otp: str = "", *, reject: bool = False) -> list[Published]:
            course = Course(items, record, set_tag="build-7", otp=otp, sleep=made.sleep)
            return list(course.reject() if reject else course.run())

        refused = MemoryRecord(size)
        with pytest.raises(PersonNeeded, match="staged at"):
            go(refused)
        assert [registry.packages[name]["dist-tags"] for name in made.names] == [{"latest": "0.0.0-stage"}] * size
        assert client.tags("p0") == {}
        assert list(client.look("p0").versions) == []  # type: ignore[union-attr]
        go(refused, PASSWORD, reject=True)

        # The next build finds the placeholders, and nothing else.
        record = MemoryRecord(size)
        with pytest.raises(PersonNeeded, match="staged at"):
            go(record)
        assert [each.status for each in go(record, PASSWORD)] == ["published"] * size
        assert [registry.packages[name]["dist-tags"] for name in made.names] == [{"latest": version}] * size
        assert [each.facts.tag_before for each in record.standings()] == [""] * size
    assert made.slept == 0
