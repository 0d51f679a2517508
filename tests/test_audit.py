"""The audit: that it is only appended to, who may read it, what it says of failed sign-ins, and its copy in a file."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DatabaseError
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.postgres import running_postgresql
from tests.storage_fixtures import NOW, database
from tests.web_world import World, eventually, reactor
from twistedipc.storage import audit, tables
from twistedipc.storage.migrations import upgrade
from twistedipc.storage.rows import APISERVER, Actor, builder_actor
from twistedipc.taps import audit_file
from twistedipc.taps.audit_file import AuditFile, append
from twistedipc.web.access.refusals import MAX_ADDRESSES, MAX_LINES, OTHERS, WINDOW, Failed, Refusals, lines_of

ANN = Actor(who="ann", token=7, address="192.0.2.7", request="00ff")


def write(connection: Connection, /, action: str = "project.change", project: str | None = "shop", **more: Any) -> None:
    given = {"by": ANN, "subject": project or "x", "detail": {}, "now": NOW, **more}
    audit.record(connection, action=action, project=project, **given)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Connection]:
    with database(tmp_path) as connection:
        yield connection


CHANGES = (
    "UPDATE audit SET who = 'someone else'",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE id = 1",
)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "change",
    [*CHANGES, "REPLACE INTO audit (id, time, who, action, subject, detail) VALUES (1, 1, 'x', 'x', 'x', '{}')"],
)
def test_sqlite_lets_nobody_change_what_is_written(ledger: Connection, change: str) -> None:
    write(ledger)
    before = audit.list_page(ledger, limit=9)
    with pytest.raises(DatabaseError, match="only appended to"), ledger.begin_nested():
        ledger.execute(text(change))
    assert audit.list_page(ledger, limit=9) == before


def test_postgresql_lets_nobody_change_what_is_written() -> None:
    with running_postgresql() as server:
        engine = create_engine(server.url)
        with engine.begin() as connection:
            upgrade(connection)
            write(connection)
        for change in (*CHANGES, "TRUNCATE audit"):
            with pytest.raises(DatabaseError, match="only appended to"), engine.begin() as connection:
                connection.execute(text(change))
        with engine.begin() as connection:
            assert [row.who for row in audit.list_page(connection, limit=9)] == ["ann"]
        engine.dispose()


def test_a_line_comes_back_as_it_was_written(ledger: Connection) -> None:
    write(ledger, detail={"default_ref": "main → next"})
    (row,) = audit.list_page(ledger, limit=9)
    assert (row.who, row.kind, row.token, row.address, row.request) == ("ann", "token", 7, "192.0.2.7", "00ff")
    assert (row.action, row.subject, row.project, row.detail) == (
        "project.change",
        "shop",
        "shop",
        {"default_ref": "main → next"},
    )


def test_whose_token_it_was_is_written_beside_the_token(ledger: Connection) -> None:
    write(ledger)
    write(ledger, by=Actor(who="laptop", token=8, person=3, person_name="Ann Bo"))
    write(ledger, by=Actor(who="Ann Bo", token=9))  # a token of that name
    found = audit.list_page(ledger, who="Ann Bo", limit=9)
    assert [(row.who, row.token, row.person, row.person_name) for row in found] == [
        ("Ann Bo", 9, None, None),
        ("laptop", 8, 3, "Ann Bo"),
    ]


def test_a_line_is_bounded_and_says_what_it_leaves_out(ledger: Connection) -> None:
    write(ledger, detail={f"name {number}": "x" * 5000 for number in range(audit.MAX_VALUES + 7)})
    (row,) = audit.list_page(ledger, limit=9)
    assert len(row.detail) == audit.MAX_VALUES + 1
    assert row.detail["…"] == "7 more"
    assert {len(value) for value in row.detail.values()} == {audit.MAX_VALUE, len("7 more")}


def test_what_is_told_again_is_written_once(ledger: Connection) -> None:
    for reason in ("a", "a", "b", "a"):
        detail = {"reason": reason}
        audit.record_once(ledger, by=APISERVER, action="permit.refuse", project="ui", detail=detail, now=NOW)
    assert [row.detail["reason"] for row in audit.list_page(ledger, limit=9)] == ["b", "a"]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from(["x.one", "x.two", "xx.one"])), max_size=20),
    st.integers(1, 5),
    st.sampled_from([None, "x", "x.one", "xx"]),
    st.sampled_from([None, frozenset({"a"}), frozenset({"a", "b"}), frozenset[str]()]),
)
def test_pages_together_are_all_lines_in_both_directions(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[str | None, str]],
    limit: int,
    action: str | None,
    projects: frozenset[str] | None,
) -> None:
    wanted = [
        number
        for number, (project, done) in enumerate(lines, 1)
        if (projects is None or project in projects)
        and (action is None or done == action or done.startswith(action + "."))
    ]
    with database(tmp_path_factory.mktemp("audit")) as connection:
        for project, done in lines:
            write(connection, done, project)
        down, before = [], None
        while page := audit.list_page(connection, projects=projects, action=action, before=before, limit=limit):
            down += [row.id for row in page]
            before = page[-1].id
        up, after = [], 0
        while page := audit.list_page(connection, projects=projects, action=action, after=after, limit=limit):
            up += [row.id for row in page]
            after = page[-1].id
    assert down == wanted[::-1]
    assert up == wanted


class Reading(World):
    async def prepare(self) -> None:
        for action, project, by in (
            ("project.create", "shop", ANN),
            ("token.create", None, ANN),
            ("project.create", "blog", Actor(who="bob", token=8)),
            ("builder.link", None, builder_actor("one", "10.0.0.9")),
        ):
            await self.ledger.write(write, action, project, by=by, now=self.time)
            self.time += 1000

    async def listed(self, query: str = "", token: str = "") -> Any:
        answer = await self.ask("GET", f"/api/v1/audit{query}", token=token)
        assert answer.status == 200, answer.raw
        return answer.json

    async def ids(self, query: str = "", token: str = "") -> list[int]:
        return [line["id"] for line in (await self.listed(query, token))["lines"]]

    async def test_filters(self) -> None:
        assert await self.ids() == [4, 3, 2, 1]
        assert await self.ids("?project=shop") == [1]
        assert await self.ids("?who=ann") == [2, 1]
        assert await self.ids("?action=project") == [3, 1]
        assert await self.ids("?action=token.create") == [2]
        line = (await self.listed("?who=one"))["lines"][0]
        assert (line["kind"], line["address"], line["token"]) == ("builder", "10.0.0.9", None)
        moment = line["time"].replace("+", "%2B")
        assert await self.ids(f"?since={moment}") == [4]
        assert await self.ids(f"?until={moment}") == [3, 2, 1]
        assert await self.ids("?until=0001-01-01T00:00:00") == []
        assert await self.ids("?since=9999-12-31T23:59:59Z") == []
        self.problem(await self.ask("GET", "/api/v1/audit?action=DROP"), 422)
        self.problem(await self.ask("GET", "/api/v1/audit?since=yesterday"), 422)

    async def test_pages(self) -> None:
        first = await self.listed("?limit=3")
        assert ([line["id"] for line in first["lines"]], first["next"]) == ([4, 3, 2], 2)
        rest = await self.listed("?limit=3&before=2")
        assert ([line["id"] for line in rest["lines"]], rest["next"]) == ([1], None)

    async def test_who_goes_on_from_line_to_line_misses_none(self) -> None:
        """The newest lines are withheld for a moment: another process may be about to write one before them."""
        page = await self.listed("?after=1")
        assert ([line["id"] for line in page["lines"]], page["next"]) == ([2], 2)
        self.time += audit.SETTLED
        page = await self.listed("?after=2")
        assert ([line["id"] for line in page["lines"]], page["next"]) == ([3, 4], 4)
        page = await self.listed("?after=4")
        assert (page["lines"], page["next"]) == ([], 4)

    async def test_a_token_bound_to_projects_sees_what_is_about_these(self) -> None:
        bound = await self.token("bound", "admin", ["blog"])
        assert await self.ids(token=bound) == [3]
        assert await self.ids("?project=shop", token=bound) == []

    async def test_a_request_is_named_as_in_its_answer(self) -> None:
        answer = await self.ask("POST", "/api/v1/projects", {"name": "new", "repository": "https://git.example/x.git"})
        (line,) = (await self.listed("?project=new"))["lines"]
        assert line["request"] == answer.headers["X-Request-Id"]
        assert (line["who"], line["kind"], line["address"]) == ("ada", "token", "127.0.0.1")

    async def test_a_build_is_written_down_without_its_parameters_values(self) -> None:
        await self.project("new")
        body = {"ref": "main", "parameters": {"PASSWORD": "s3cret"}}
        assert (await self.ask("POST", "/api/v1/projects/new/builds", body)).status == 201
        (line,) = (await self.listed("?action=build"))["lines"]
        assert line["detail"] == {"build": "1", "ref": "main", "publish": "yes", "parameters": "PASSWORD"}

    async def test_failed_sign_ins_are_counted(self) -> None:
        for number in range(40):
            await self.ask("POST", "/api/v1/sessions", {"token": f"tipc_{number}"}, token=None)
        await self.ask("GET", "/api/v1/identity", token="tipc_x")
        assert await self.ids("?action=sign_in.fail") == []
        await self.site.stop()
        (line,) = (await self.listed("?action=sign_in.fail"))["lines"]
        assert line["detail"]["times"] == "41"
        assert (line["address"], line["kind"], line["who"]) == ("127.0.0.1", "nobody", "")


class FakeLedger:
    """Takes what is written, or fails."""

    def __init__(self) -> None:
        self.lines: list[tuple[Failed, int]] = []

    def write(self, query: Callable[..., None], lines: list[tuple[Failed, int]], now: int) -> Deferred[None]:
        self.lines += lines
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done


def test_failures_are_recorded_once_a_window() -> None:
    clock, taken = Clock(), FakeLedger()
    refusals = Refusals(clock, lambda: NOW, taken)  # type: ignore[arg-type]  # the one method that it needs
    for _ in range(1000):
        refusals.note("192.0.2.1", "bearer")
    refusals.note("192.0.2.2", "ticket")
    clock.advance(WINDOW - 1)
    assert taken.lines == []
    clock.advance(1)
    assert taken.lines == [(Failed("192.0.2.1", "bearer"), 1000), (Failed("192.0.2.2", "ticket"), 1)]
    clock.advance(WINDOW)
    assert len(taken.lines) == 2
    assert clock.getDelayedCalls() == []


def test_addresses_are_bounded() -> None:
    clock, taken = Clock(), FakeLedger()
    refusals = Refusals(clock, lambda: NOW, taken)  # type: ignore[arg-type]  # the one method that it needs
    for number in range(MAX_ADDRESSES * 3):
        refusals.note(f"address {number}", "bearer")
    clock.advance(WINDOW)
    assert len(taken.lines) == MAX_LINES
    assert sum(count for _, count in taken.lines) == MAX_ADDRESSES * 3
    assert taken.lines[0] == (Failed(OTHERS, "any"), MAX_ADDRESSES * 2)


@given(st.lists(st.sampled_from([Failed(f"address {number}", "bearer") for number in range(15)])))
def test_no_failure_is_left_out_of_the_count(failures: list[Failed]) -> None:
    counts = Counter(failures)
    lines = lines_of(counts)
    assert sum(count for _, count in lines) == len(failures)
    assert len(lines) <= MAX_LINES
    assert all(counts[failed] == count for failed, count in lines if failed.address != OTHERS)


class Copying(World):
    async def prepare(self) -> None:
        self.path, self.position = self.folder / "audit.jsonl", self.folder / "position"
        for number in range(3):
            await self.ledger.write(write, f"number.n{'abc'[number]}", "shop", now=self.time)
        self.time += audit.SETTLED + 1

    def start(self) -> AuditFile:
        self.patch(audit_file, "INTERVAL", 0.01)
        copying = AuditFile(reactor, self.now, self.ledger, self.in_thread, self.path, self.position)
        copying.startService()
        self.addCleanup(copying.stopService)
        return copying

    def actions(self) -> list[str]:
        if not self.path.is_file():
            return []
        return [json.loads(line)["action"] for line in self.path.read_bytes().splitlines()]

    async def test_all_lines_are_copied_once_and_what_comes_later_too(self) -> None:
        self.start()
        await eventually(lambda: len(self.actions()) == 3)
        await self.ledger.write(write, "later.one", None, now=self.time)
        self.time += audit.SETTLED + 1
        await eventually(lambda: self.actions() == ["number.na", "number.nb", "number.nc", "later.one"])
        assert self.path.stat().st_mode & 0o777 == 0o600
        served = (await self.ask("GET", "/api/v1/audit?after=0")).json["lines"]
        assert [json.loads(line) for line in self.path.read_bytes().splitlines()] == served

    async def test_a_file_that_was_moved_away_is_begun_again(self) -> None:
        self.start()
        await eventually(lambda: len(self.actions()) == 3)
        await eventually(self.position.exists)
        self.path.rename(self.folder / "audit.jsonl.1")
        await self.ledger.write(write, "later.one", None, now=self.time)
        self.time += audit.SETTLED + 1
        await eventually(lambda: self.actions() == ["later.one"])

    async def test_what_cannot_be_written_waits(self) -> None:
        self.path.mkdir()
        copying = self.start()
        await eventually(lambda: copying.in_trouble)
        assert not self.position.exists()
        self.path.rmdir()
        await eventually(lambda: len(self.actions()) == 3)
        await eventually(lambda: not copying.in_trouble)


def test_a_line_that_was_cut_is_written_again(tmp_path: Path, ledger: Connection) -> None:
    write(ledger)
    rows = audit.list_page(ledger, limit=9)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"id":1,"ti')
    append(path, tmp_path / "position", rows)
    cut, whole = path.read_bytes().splitlines()
    assert cut == b'{"id":1,"ti'
    assert json.loads(whole)["id"] == rows[0].id
    assert json.loads((tmp_path / "position").read_bytes()) == {"copied": rows[0].id}


def test_no_other_module_knows_the_table() -> None:
    """One room writes it, nothing changes a line of it, and one function deletes those that are too old."""
    package = Path(audit.__file__).parent.parent
    found = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "migrations" not in path.parts
        and ("tables import audit" in (source := path.read_text()) or "tables.audit" in source)
    ]
    assert found == ["storage/audit.py"]
    source = (package / "storage/audit.py").read_text()
    assert "insert(audit)" in source
    assert re.findall(r"\b(?:update|delete)\w*\(\w+", source) == ["update(audit_kept", "delete(audit"]
    before = source.index("delete(audit)")
    assert source.rindex("def ", 0, before) == source.index("def remove_before(")
    assert tables.audit.name == "audit"
