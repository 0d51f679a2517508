"""Permits to publish: which attempt gets one, by the apiserver's own record, and what is written down of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, select, text, update

from tests.storage_fixtures import HOLDER, LEASE, NOW, add_build, add_project, as_of_0007, database
from twistedipc.builds import names
from twistedipc.builds.attempt import Package, StepResult
from twistedipc.builds.logs import Lines, StepEnded, StepStarted, encoder
from twistedipc.builds.states import TERMINAL, AttemptState
from twistedipc.builds.versions import Canary, Versioning, canary_of
from twistedipc.publish.permits import Decision, Granted, NotYet, Record, Refused, Void, decide, decide_stored
from twistedipc.publish.targets.npm.target import Npm, NpmSettings
from twistedipc.publish.targets.registry import name_of
from twistedipc.storage import attempts, builds, logs, permits, projects, tables, versions
from twistedipc.storage.logs import ChunkItem
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.rows import Holder
from twistedipc.storage.tables import audit, deliveries

REGISTRY = "https://r.example/"

#: What a project says whose builder publishes; `test_server_delivering` has those whose apiserver does.
UI = NpmSettings(registry=REGISTRY, publish_at="builder")
PINNED = replace(UI, packages=["@acme/ui"])
PACKAGE = Package(file="package/x.tgz", name="@acme/ui", version="1.0.0", integrity="sha512-x", tag="next")


def step(name: str, command: str = "", outcome: str = "succeeded") -> StepResult:
    return StepResult(index=0, name=name, command=command, outcome=outcome, started=1, ended=2)


BUILT = [step("checkout"), step("build", "npm run build"), step("pack")]
GOOD = Record(
    project="ui",
    settings=PINNED,
    state=AttemptState.RUNNING,
    lease=LEASE,
    builder="one",
    cancel_reason="",
    steps=BUILT,
    offered=UI,
    given=(),
    no_secret="",
)


def decided(record: Record, *packages: Package, lease: str = LEASE, builder: str = "one") -> Decision:
    return decide(Npm(), record, lease=lease, builder=builder, packages=packages or [PACKAGE])


def test_an_attempt_that_was_asked_to_publish_and_has_built_may() -> None:
    assert decided(GOOD) == Granted(new=True)
    assert decided(replace(GOOD, given=[PACKAGE], state=AttemptState.PUBLISHING)) == Granted()
    # Where its tarball lies is no matter.
    assert decided(replace(GOOD, given=[replace(PACKAGE, file="elsewhere.tgz")])) == Granted()
    first = replace(GOOD, settings=UI)
    assert decided(first) == Granted(new=True, pin=PINNED)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cancel_reason": "ann has cancelled it"}, "ann has cancelled it"),
        ({"settings": None}, "project ui publishes no npm package"),
        ({"settings": replace(UI, paused=True)}, "twistedipc project set ui --npm"),
        ({"offered": None}, "this build was not asked to publish"),
        (
            {"offered": replace(UI, registry="https://other.example/")},
            "has changed since this build began, from https://other.example/",
        ),
        ({"given": [replace(PACKAGE, version="1.0.1")]}, "has its permit for @acme/ui@1.0.1, and can have no other"),
        ({"given": [replace(PACKAGE, name="x")]}, "can have no other"),
        ({"given": [replace(PACKAGE, integrity="sha512-y")]}, "can have no other"),
        ({"given": [replace(PACKAGE, tag="latest")]}, "can have no other"),
        ({"steps": [step("build", "x", "failed"), step("pack")]}, "step build has not succeeded"),
        ({"steps": [step("checkout"), step("pack", outcome="failed")]}, "step pack has not succeeded"),
        (
            {"settings": replace(UI, packages=["a", "@acme/core"])},
            "twistedipc project set ui --package 'a' --package '@acme/core' --package '@acme/ui'",
        ),
        ({"settings": replace(UI, packages=["@acme/*x", "@acm/*"])}, "may publish"),
        ({"no_secret": "there is no token"}, "there is no token"),
        ({"no_secret": "there is no token", "given": [PACKAGE]}, "there is no token"),
    ],
)
def test_a_refused_package_has_its_reason(change: dict[str, object], sentence: str) -> None:
    refused = decided(replace(GOOD, **change))
    assert isinstance(refused, Refused)
    assert sentence in refused.reason


CANARY = canary_of("refs/pull/12/head", 7)
PREVIEWED = replace(GOOD, settings=replace(PINNED, canary=True), canary=CANARY)
PREVIEW = replace(PACKAGE, version="1.0.1-pr12.7", tag="pr-12")


def test_a_canary_of_a_package_that_is_the_projects_may_be_published() -> None:
    assert decided(PREVIEWED, PREVIEW) == Granted(new=True)


@pytest.mark.parametrize(
    ("change", "package", "sentence"),
    [
        ({}, replace(PREVIEW, tag=""), "and not @acme/ui@1.0.1-pr12.7 with the tag latest"),
        ({}, replace(PREVIEW, tag="latest"), "versions like 1.2.3-pr12.7 and the tag pr-12, and not"),
        ({}, replace(PREVIEW, tag="pr-13"), "with the tag pr-13"),
        ({}, replace(PREVIEW, version="1.0.1"), "and not @acme/ui@1.0.1 with the tag pr-12"),
        ({}, replace(PREVIEW, version="1.0.1-pr12.8"), "and not @acme/ui@1.0.1-pr12.8 with"),
        ({}, replace(PREVIEW, version="1.0.1-pr13.7"), "and not @acme/ui@1.0.1-pr13.7 with"),
        ({}, replace(PREVIEW, name="lodash"), "may publish @acme/ui, and this package is lodash"),
        ({"settings": PINNED}, PREVIEW, "ui publishes no canaries (`twistedipc project set ui --canary true`)"),
        ({"settings": replace(UI, canary=True)}, PREVIEW, "has published no package yet, and a canary can't be the"),
        ({"no_canary": "it is taken"}, PREVIEW, "it is taken"),
    ],
)
def test_a_build_that_isnt_for_users_may_publish_nothing_else(
    change: dict[str, object], package: Package, sentence: str
) -> None:
    refused = decided(replace(PREVIEWED, **change), package)
    assert isinstance(refused, Refused)
    assert sentence in refused.reason
    stored = decide_stored(Npm(), replace(PREVIEWED, **change, given=[package]))
    assert isinstance(stored, Refused)
    assert sentence in stored.reason


OTHERS = [replace(PACKAGE, name="@acme/base"), PACKAGE, replace(PACKAGE, name="lodash")]


def test_several_packages_are_permitted_together_or_not_at_all() -> None:
    first = replace(GOOD, settings=UI)
    all_of_them = ["@acme/base", "@acme/ui", "lodash"]
    assert decided(first, *OTHERS) == Granted(new=True, pin=replace(UI, packages=all_of_them))
    named = replace(GOOD, settings=replace(UI, packages=["@acme/*", "lodash"]))
    assert decided(named, *OTHERS) == Granted(new=True)
    refused = decided(GOOD, *OTHERS)
    assert isinstance(refused, Refused)
    assert "may publish @acme/ui, and this build also has @acme/base, lodash. To allow that" in refused.reason
    assert "--package '@acme/ui' --package '@acme/base' --package 'lodash'" in refused.reason


@pytest.mark.parametrize(
    "change",
    [{"version": ""}, {"version": "1" * 2000}, {"integrity": "sha512-\nx"}, {"tag": "\x1b[2J"}, {"file": "a\u202eb"}],
)
def test_what_is_said_of_a_package_is_one_short_line(change: dict[str, str]) -> None:
    refused = decided(GOOD, replace(PACKAGE, **change))
    assert refused == Refused("a package's name, version, integrity and tag are each one short line")


def test_a_permit_is_for_the_packages_that_were_asked_for() -> None:
    given = replace(GOOD, given=OTHERS, state=AttemptState.PUBLISHING)
    assert decided(given, *OTHERS) == Granted()
    for other in ([PACKAGE], OTHERS[:2], [*OTHERS, replace(PACKAGE, name="x")], OTHERS[::-1]):
        refused = decided(given, *other)
        assert isinstance(refused, Refused)
        assert "for @acme/base@1.0.0, @acme/ui@1.0.0, lodash@1.0.0, and can have no other" in refused.reason


@pytest.mark.parametrize(
    "packages",
    [
        [PACKAGE, replace(PACKAGE, version="2.0.0")],
        [replace(PACKAGE, name=f"@acme/p{number}") for number in range(names.MAX_PACKAGES + 1)],
    ],
)
def test_packages_that_no_attempt_can_have(packages: list[Package]) -> None:
    named = replace(GOOD, settings=replace(UI, packages=["@acme/*"]))
    assert decided(named, *packages) == Refused("an attempt publishes 1 to 100 packages, each of another name")


@pytest.mark.parametrize("name", ["", "-x", "../x", "a b", "@acme/", "@/x", "x" * 215])
def test_what_is_no_name_is_no_package(name: str) -> None:
    """A bad name can't become the name of a project's package either."""
    first = replace(GOOD, settings=UI)
    assert isinstance(decided(first, replace(PACKAGE, name=name)), Refused)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [step("checkout")],
        [step("checkout"), step("build", "npm run build", "running")],
        [step("checkout"), step("build", "npm run build")],
        [step("checkout"), step("build", "npm run build"), step("pack", outcome="running")],
        [*BUILT, step("publish", outcome="running")],
        # No step of a build can be called so; and if one were, it has a command.
        [step("checkout"), step("pack", "echo I am the pack step")],
    ],
)
def test_before_its_steps_are_over_there_is_none(steps: list[StepResult]) -> None:
    """A build wrote `permit.wanted` into its folder in the midst of its steps, and was handed the registry's token."""
    assert decided(replace(GOOD, steps=steps)) == NotYet("the steps of the build aren't over")


def test_a_step_of_the_platforms_own_may_have_been_run_again() -> None:
    again = [step("checkout", outcome="failed"), step("checkout"), step("pack", outcome="failed"), step("pack")]
    assert decided(replace(GOOD, steps=again)) == Granted(new=True)


def test_only_the_holder_of_the_lease_is_answered() -> None:
    assert decided(GOOD, lease="f" * 16) == Void()
    assert decided(GOOD, builder="two") == Void()
    for state in TERMINAL:
        assert decided(replace(GOOD, state=state)) == Void()


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        (["@acme/*"], "@acme/ui", True),
        (["@acme/*"], "@acme2/ui", False),
        (["@acme/*"], "acme", False),
        (["x", "@acme/*"], "x", True),
        (["x"], "x-y", False),
        (["x"], "X", False),
    ],
)
def test_names_and_scopes(patterns: list[str], name: str, allowed: bool) -> None:
    record = replace(GOOD, settings=replace(UI, packages=patterns))
    assert isinstance(decided(record, replace(PACKAGE, name=name)), Granted if allowed else Refused)


@pytest.mark.parametrize("pattern", ["x", "X-1.y_z~", "@acme/ui", "@acme/*", "~x"])
def test_packages_that_a_project_may_publish(pattern: str) -> None:
    assert names.packages([pattern]) == [pattern]


@pytest.mark.parametrize("pattern", ["", "*", "@acme", "@acme/", "@*/x", "@acme/u*", "-x", "@Acme/*", "a b", "x" * 215])
def test_what_is_neither_a_package_nor_a_scope(pattern: str) -> None:
    with pytest.raises(names.BadValue):
        names.packages(["x", pattern])
    with pytest.raises(names.BadValue):
        names.packages(["x"] * 101)


# -- what is written down --------------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        yield connection


def built(
    connection: Connection,
    *,
    publish: bool = True,
    steps: bool = True,
    setting: NpmSettings | None = None,
    ref: str = "main",
) -> str:
    """An attempt of the project "ui" that runs and, if ``steps``, has packed."""
    if projects.get(connection, "ui") is None:
        add_project(connection, "ui", targets=(setting or UI,))
        projects.set_secret(connection, "ui", "npm_token", b"sealed", NOW)
    attempt = f"{add_build(connection, 'ui', publish=publish, ref=ref).id}-1"
    (queued,) = [one for one in attempts.next_queued(connection, 10) if one.name == attempt]
    assert permits.offer(connection, attempt, LEASE, "one", NOW, queued.targets, queued.repository, queued.of)
    assert attempts.accept(connection, attempt, HOLDER)
    assert attempts.started(connection, attempt, HOLDER, NOW, NOW)
    if steps:
        events: list[StepStarted | StepEnded] = [StepStarted(0, "checkout", ""), StepEnded(0, "succeeded", 1, 0)]
        events += [StepStarted(1, "pack", ""), StepEnded(1, "succeeded", 1, 0)]
        data = encoder.encode(Lines(1, NOW, 0, list(events))) + b"\n"
        item = ChunkItem(attempt=attempt, first=1, count=4, data=data, events=[(NOW, event) for event in events])
        logs.append(connection, [item])
    return attempt


def audited(connection: Connection) -> list[tuple[str, str, str, dict[str, str]]]:
    rows = connection.execute(select(audit).order_by(audit.c.id))
    return [(row.who, row.action, row.subject, json.loads(row.detail)) for row in rows]


def test_a_permit_is_written_down_and_audited_once(ledger: Connection) -> None:
    attempt = built(ledger)
    assert permits.look(ledger, attempt, LEASE, "npm", [PACKAGE], "one") == Granted(new=True, pin=PINNED)
    assert audited(ledger) == []
    first = permits.give(ledger, attempt, LEASE, "npm", [PACKAGE], "one", NOW)
    assert first.decision == Granted(new=True, pin=PINNED)
    assert first.sealed == {"npm_token": b"sealed"}
    assert first.row is not None
    assert first.row.state is AttemptState.PUBLISHING
    expected = {
        "attempt": attempt,
        "package": "@acme/ui",
        "version": "1.0.0",
        "integrity": "sha512-x",
        "tag": "next",
        "registry": REGISTRY,
        "publish_at": "builder",
        "target": "npm",
    }
    assert audited(ledger) == [
        (
            "apiserver",
            "project.change",
            "ui",
            {
                "changed": "targets",
                "target": "npm",
                "registry": REGISTRY,
                "packages": "@acme/ui",
                "publish_at": "builder",
                "why": "what it published first",
            },
        ),
        ("one", "package.new", "ui", {"attempt": attempt, "package": "@acme/ui", "version": "1.0.0"}),
        ("one", "permit.give", "ui", expected),
    ]
    again = permits.give(ledger, attempt, LEASE, "npm", [PACKAGE], "one", NOW + 5)
    assert (again.decision, again.sealed) == (Granted(), {"npm_token": b"sealed"})
    assert len(audited(ledger)) == 3


def test_the_first_package_is_the_projects_until_an_admin_says_otherwise(ledger: Connection) -> None:
    permits.give(ledger, built(ledger), LEASE, "npm", [PACKAGE], "one", NOW)
    project = projects.get(ledger, "ui")
    assert project is not None
    assert project.targets == (PINNED,)
    other = replace(PACKAGE, name="lodash")
    refused = permits.give(ledger, built(ledger), LEASE, "npm", [other], "one", NOW).decision
    assert isinstance(refused, Refused)
    assert "may publish @acme/ui, and this package is lodash" in refused.reason
    projects.update(ledger, "ui", {"targets": (replace(PINNED, packages=["@acme/*", "lodash"]),)}, NOW)
    assert permits.give(ledger, built(ledger), LEASE, "npm", [other], "one", NOW).decision == Granted(new=True)


def test_a_permit_fixes_the_versions_of_its_build_and_no_other_build_gets_them(ledger: Connection) -> None:
    first = built(ledger)
    permits.give(ledger, first, LEASE, "npm", OTHERS, "one", NOW)
    build = int(first.partition("-")[0])
    assert versioning(ledger, bump="", build=build) == Versioning()
    names = {"@acme/base": "1.0.0", "@acme/ui": "1.0.0", "lodash": "1.0.0"}
    assert versioning(ledger, build=build) == Versioning(bump="patch", fixed=names)
    taken = {name: [version] for name, version in names.items()}
    assert versioning(ledger, build=build + 1) == Versioning(bump="patch", taken=taken)
    add_build(ledger, "ui", bump="minor")
    add_build(ledger, "ui")
    raised, plain = attempts.next_queued(ledger, 10)
    assert (raised.versioning, plain.versioning) == (Versioning(bump="minor", taken=taken, asked=NOW), None)
    assert "versions" in raised.needs - plain.needs


def test_a_canary_is_offered_where_its_project_wants_it(ledger: Connection) -> None:
    add_project(ledger, "ui", targets=(PINNED,))
    projects.set_secret(ledger, "ui", "npm_token", b"sealed", NOW)

    def offered(ref: str, **more: Any) -> Canary | None:
        build = add_build(ledger, "ui", ref=ref, **more)
        (queued,) = [one for one in attempts.next_queued(ledger, 100) if one.build == build.id]
        assert [name_of(each) for each in queued.targets] == (["npm"] if queued.versioning else [])
        assert queued.context == "preview"
        return queued.versioning.canary if queued.versioning is not None else None

    assert offered("fix") is None
    projects.update(ledger, "ui", {"targets": (replace(PINNED, canary=True),)}, NOW)
    found = offered("fix")
    assert found is not None
    assert found.tag == "fix"
    assert offered("fix", publish=False) is None
    assert offered("fix", may_publish=False) is None
    # While nobody knows what HEAD stands for, it may be this one.
    projects.update(ledger, "ui", {"protected": ["HEAD"]}, NOW)
    assert offered("fix") is None
    ledger.execute(update(tables.projects).values(head="main"))
    assert offered("fix") is not None


def test_the_tag_of_a_release_is_no_canarys(ledger: Connection) -> None:
    attempt = built(ledger, setting=replace(PINNED, canary=True))
    assert isinstance(
        permits.give(ledger, attempt, LEASE, "npm", [replace(PACKAGE, tag="edge")], "one", NOW).decision, Granted
    )
    projects.update(ledger, "ui", {"targets": (replace(PINNED, canary=True),)}, NOW)
    for ref, sentence in (("edge", "the tag edge is one of the project's releases"), ("other", "")):
        one = built(ledger, ref=ref)
        number = int(one.partition("-")[0])
        wanted = replace(PACKAGE, version=f"1.0.1-{ref}.{number}", tag=ref)
        decision = permits.give(ledger, one, LEASE, "npm", [wanted], "one", NOW).decision
        if sentence:
            assert isinstance(decision, Refused)
            assert sentence in decision.reason
        else:
            assert decision == Granted(new=True)


def versioning(connection: Connection, *, build: int, bump: str = "patch") -> Versioning:
    project_id = connection.execute(select(tables.projects.c.id)).scalar_one()
    return versions.versioning(connection, project_id=project_id, build=build, bump=bump, canary=None, asked=0)


def test_each_package_of_a_permit_is_audited(ledger: Connection) -> None:
    attempt = built(ledger)
    for _ in range(2):
        answer = permits.give(ledger, attempt, LEASE, "npm", OTHERS, "one", NOW)
        assert isinstance(answer.decision, Granted)
        assert answer.sealed == {"npm_token": b"sealed"}
    lines = [detail for _who, action, _subject, detail in audited(ledger) if action == "permit.give"]
    assert [line["package"] for line in lines] == ["@acme/base", "@acme/ui", "lodash"]
    assert isinstance(permits.look(ledger, attempt, LEASE, "npm", [PACKAGE], "one"), Refused)
    project = projects.get(ledger, "ui")
    assert project is not None
    assert project.targets == (replace(UI, packages=["@acme/base", "@acme/ui", "lodash"]),)


def test_a_refused_attempt_gives_its_project_no_name(ledger: Connection) -> None:
    for attempt in (built(ledger, publish=False), built(ledger, steps=False)):
        assert not isinstance(permits.give(ledger, attempt, LEASE, "npm", [PACKAGE], "one", NOW).decision, Granted)
    project = projects.get(ledger, "ui")
    assert project is not None
    assert project.targets == (UI,)
    assert audited(ledger) == []


def test_what_was_offered_counts_not_what_the_project_has_become(ledger: Connection) -> None:
    """A registry that was changed meanwhile was given a token that was meant for the other one."""
    attempt = built(ledger)
    projects.update(ledger, "ui", {"targets": (replace(UI, registry="https://evil.example/"),)}, NOW)
    refused = permits.give(ledger, attempt, LEASE, "npm", [PACKAGE], "one", NOW).decision
    assert isinstance(refused, Refused)
    assert "build again" in refused.reason
    quiet = built(ledger, publish=False)
    assert permits.look(ledger, quiet, LEASE, "npm", [PACKAGE], "one") == Refused(
        "this build was not asked to publish its npm package"
    )


def test_an_attempt_that_is_offered_again_has_no_permit_of_before(ledger: Connection) -> None:
    add_project(ledger, "ui", targets=(UI,))
    attempt = f"{add_build(ledger, 'ui').id}-1"
    for lease in ("a" * 16, "b" * 16):
        assert permits.offer(ledger, attempt, lease, "one", NOW, (UI,), "x")
        attempts.requeue(ledger, attempt, Holder(lease, "one"), NOW)
    assert permits.offer(ledger, attempt, "c" * 16, "one", NOW, (), "x")
    assert isinstance(permits.look(ledger, attempt, "c" * 16, "npm", [PACKAGE], "one"), Refused)


def test_nothing_is_there(ledger: Connection) -> None:
    assert permits.look(ledger, "99-1", LEASE, "npm", [PACKAGE], "one") == Void()
    assert permits.give(ledger, "99-1", LEASE, "npm", [PACKAGE], "one", NOW).decision == Void()
    attempt = built(ledger)
    builds.request_cancel(ledger, int(attempt.split("-")[0]), "enough", NOW)
    assert permits.look(ledger, attempt, LEASE, "npm", [PACKAGE], "one") == Refused("enough")


@pytest.mark.sqlite
def test_permits_stay_good_when_there_are_targets(ledger: Connection) -> None:
    """An update of the apiserver in the midst of a publication, from the version that knew one target with permits."""
    given, asked = built(ledger), built(ledger)
    before = permits.give(ledger, given, LEASE, "npm", [PACKAGE], "one", NOW)
    assert before.sealed == {"npm_token": b"sealed"}
    rows = ledger.execute(select(deliveries)).all()
    as_of_0007(ledger)
    upgrade(ledger)
    assert ledger.execute(select(deliveries.c.bound_to, deliveries.c.package)).all() == [
        (row.bound_to, row.package) for row in rows
    ]
    project = projects.get(ledger, "ui")
    assert project is not None
    assert (project.targets, project.secrets) == ((PINNED,), ["npm_token"])
    again = permits.give(ledger, given, LEASE, "npm", [PACKAGE], "one", NOW)
    assert (again.decision, again.sealed) == (Granted(), {"npm_token": b"sealed"})
    assert permits.look(ledger, asked, LEASE, "npm", [PACKAGE], "one") == Granted(new=True)


def test_each_target_has_its_own_permit(ledger: Connection) -> None:
    """A permit for one target is none for another, and what no attempt was offered gets none."""
    attempt = built(ledger)
    for target in ("static", "s3", ""):
        assert isinstance(permits.give(ledger, attempt, LEASE, target, [PACKAGE], "one", NOW).decision, Refused)
    assert audited(ledger) == []


@pytest.mark.sqlite
def test_what_is_under_way_when_the_table_comes_may_go_on(ledger: Connection) -> None:
    """An update of the apiserver in the midst of a build."""
    attempt = built(ledger)
    quiet = built(ledger, publish=False)
    as_of_0007(ledger)
    ledger.execute(text("DROP TABLE permits"))
    ledger.execute(text("UPDATE alembic_version SET version_num = '0006'"))
    upgrade(ledger)
    assert isinstance(permits.look(ledger, quiet, LEASE, "npm", [PACKAGE], "one"), Refused)
    assert permits.look(ledger, attempt, LEASE, "npm", [PACKAGE], "one") == Granted(new=True, pin=PINNED)
