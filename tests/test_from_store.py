"""
The process in which the apiserver publishes, with a registry of the tests' own. It does nothing before the apiserver
has written down that it begins with it.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.package_registry import archive
from tests.registry import OTP, TOKEN, Account, Fault, Faults, Registry, running
from twistedipc.attempts.programs import own_command
from twistedipc.builds.attempt import Package
from twistedipc.builds.logs import Lines
from twistedipc.publish.asking import Change, Question
from twistedipc.publish.record import Facts, Outcome, Progress, Standing, Step
from twistedipc.publish.stored import Delivered, Job, Said, Start, StepBegins, StepEnds, Written
from twistedipc.publish.targets.npm.package import integrity

DECODER: msgspec.json.Decoder[Said] = msgspec.json.Decoder(Said)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as registry:
        registry.state.has_stages = False
        yield registry


def job(tmp_path: Path, registry: Registry, **start: Any) -> Job:
    """What is to be done: there is no npm."""
    manifest = json.dumps({"name": "p", "version": "1.0.0"})
    file = tmp_path / "p.tgz"
    file.write_bytes(archive({"package.json": manifest, "index.js": "1"}))
    return Job(
        attempt="7-1", build=7, project="p", target="npm",
        settings={"type": "npm", "registry": registry.url, "publish_at": "apiserver"},
        packages=[Package(file="package/0.tgz", name="p", version="1.0.0", integrity=integrity(file))],
        tarballs=[str(file)], secrets={"npm_token": TOKEN}, folder=str(tmp_path / "work"),
        environment={"PATH": "/usr/bin:/bin"}, start=Start(set_tag="build-7", **start),
    )  # fmt: skip


def started(what: Job) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        own_command("twistedipc.runner.from_store"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(what) + b"\n")
    process.stdin.flush()
    return process


class Heard:
    """What a process has said."""

    def __init__(self) -> None:
        self.rows: list[StepBegins | StepEnds] = []
        self.batches: list[Lines] = []
        self.end = Delivered()

    @property
    def log(self) -> str:
        return msgspec.json.encode(self.batches).decode()


def finished(
    process: subprocess.Popen[bytes], *, answers: str | None = "", renewed: dict[str, str] | None = None
) -> Heard:
    """
    Listen to its end. ``answers``: why no row is written down; "": all are; None: there is no answer at all.
    ``renewed``: secrets that take the place of others, from the second row on.
    """
    heard = Heard()
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdin is not None
    for line in process.stdout:
        match DECODER.decode(line):
            case Lines() as batch:
                heard.batches.append(batch)
            case Delivered() as end:
                heard.end = end
            case row:
                heard.rows.append(row)
                if answers is None:
                    process.stdin.close()
                else:
                    others = renewed or {} if len(heard.rows) > 1 else {}
                    process.stdin.write(msgspec.json.encode(Written(why_not=answers, renewed=others)) + b"\n")
                    process.stdin.flush()
    assert process.wait(180) == 0, process.stderr.read()
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()
    return heard


def test_without_a_registry_nothing_is_published(tmp_path: Path, registry: Registry) -> None:
    """The project names none, and there is no npm that does."""
    nameless = msgspec.structs.replace(
        job(tmp_path, registry), settings={"type": "npm"}, environment={"PATH": str(tmp_path)}
    )
    end = finished(started(nameless)).end
    assert end.reason.startswith("the apiserver, which is to publish this, can't: no registry is named")
    assert (end.published, registry.asked) == ([], [])


def test_each_step_is_said_before_and_after(tmp_path: Path, registry: Registry) -> None:
    heard = finished(started(job(tmp_path, registry)))
    assert heard.end.reason == ""
    assert [(each.name, each.status) for each in heard.end.published] == [("p", "published")]
    begun = [each.step for each in heard.rows if isinstance(each, StepBegins)]
    assert begun == [Step.PREFLIGHT, Step.UPLOAD, Step.VERIFY, Step.TAG, Step.VERIFY]
    assert [type(each) for each in heard.rows] == [StepBegins, StepEnds] * 5
    assert registry.uploaded == ["p"]


@pytest.mark.parametrize(("answers", "sentence"), [("the disk is full", "the disk is full"), (None, "doesn't answer")])
def test_what_is_not_written_down_is_not_done(
    tmp_path: Path, registry: Registry, answers: str | None, sentence: str
) -> None:
    heard = finished(started(job(tmp_path, registry)), answers=answers)
    assert sentence in heard.end.reason
    assert len(heard.rows) == 1
    assert registry.asked == []


def test_nothing_is_begun_once_the_apiserver_is_gone(tmp_path: Path, registry: Registry) -> None:
    """
    It was killed before the process could ask to die with it. Its next start may have begun with the same job already,
    in the same folder.
    """
    process = started(job(tmp_path, registry))
    (tmp_path / "work").mkdir()
    (tmp_path / "work/of-another").touch()
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        stream.close()
    assert process.wait(20) == -signal.SIGKILL
    assert (tmp_path / "work/of-another").exists()
    assert registry.asked == []


def test_no_question_is_asked_once_the_apiserver_is_gone(registry: Registry) -> None:
    registry.state.have("p", "1.0.0")
    question = Question(
        target="npm",
        settings={"type": "npm", "registry": registry.url},
        secrets={"npm_token": TOKEN},
        change=Change(kind="tag", name="p", version="1.0.0", tag="stable"),
    )
    process = subprocess.Popen(own_command("twistedipc.publish.ask"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.write(msgspec.json.encode(question))
    process.stdin.close()
    assert process.wait(20) == -signal.SIGKILL
    assert registry.asked == []


def test_the_secrets_are_in_no_line_and_nothing_is_left(tmp_path: Path, registry: Registry) -> None:
    registry.state.accounts[TOKEN] = Account(otp_to_publish=True)
    registry.headers["npm-notice"] = f"you sent {TOKEN} and 918273"
    heard = finished(started(job(tmp_path, registry, otp="918273")))
    assert heard.end.needs is not None
    assert heard.end.needs.password
    assert "the registry refuses the one-time password" in heard.end.needs.reason
    assert "you sent *** and ***" in heard.log
    said = heard.log + msgspec.json.encode([heard.rows, heard.end]).decode()
    assert TOKEN not in said
    assert "918273" not in said
    assert not (tmp_path / "work").exists()


def test_an_id_token_is_another_before_it_ends(tmp_path: Path, registry: Registry) -> None:
    """The registry's token is good for one request, and the second one is asked for by what was renewed."""
    asked: list[str] = []

    def trusts(id_token: str, package: str) -> bool:
        asked.append(id_token)
        return True

    registry.state.trusts = trusts
    registry.state.exchanged_for = 1
    registry.state.private = True
    registry.headers["npm-notice"] = "you sent the.second.id-token"
    what = job(tmp_path, registry)
    settings = {**what.settings, "auth": "oidc"}
    what = msgspec.structs.replace(what, settings=settings, secrets={"npm_id_token": "the.first.id-token"})
    heard = finished(started(what), renewed={"npm_id_token": "the.second.id-token"})
    assert [each.status for each in heard.end.published] == ["published"], heard.end.reason
    assert (asked[0], set(asked[1:])) == ("the.first.id-token", {"the.second.id-token"})
    assert registry.uploaded == ["p", "p"], "the first one was refused: its token had ended"
    assert registry.state.count("publish") == {("p", "1.0.0"): 1}
    assert "you sent ***" in heard.log
    assert "id-token" not in heard.log + msgspec.json.encode([heard.rows, heard.end]).decode()


def test_staged_and_then_approved(tmp_path: Path, registry: Registry) -> None:
    registry.state.has_stages = True
    what = job(tmp_path, registry)
    heard = finished(started(what))
    assert heard.end.needs is not None
    assert heard.end.needs.reason.startswith("p@1.0.0 is staged at http://127.0.0.1")
    ended = heard.rows[-1]
    assert isinstance(ended, StepEnds)
    assert ended.reached == "staged"
    facts = Facts(registry=registry.url, mode="staged", stage=ended.facts.stage)
    steps = [Progress(position=0, step=Step.STAGE, outcome=Outcome.DONE)]
    start = Start(standings=[Standing(position=0, state=ended.reached, facts=facts)], steps=steps, otp=OTP)
    heard = finished(started(msgspec.structs.replace(what, start=start)))
    assert [each.status for each in heard.end.published] == ["published"]
    assert registry.packages["p"]["dist-tags"] == {"latest": "1.0.0"}


def test_what_is_staged_is_taken_back(tmp_path: Path, registry: Registry) -> None:
    registry.state.has_stages = True
    what = job(tmp_path, registry)
    ended = finished(started(what)).rows[-1]
    assert isinstance(ended, StepEnds)
    standing = Standing(position=0, state="staged", facts=Facts(mode="staged", stage=ended.facts.stage))  # type: ignore[arg-type]
    start = Start(standings=[standing], otp=OTP, what="reject")
    heard = finished(started(msgspec.structs.replace(what, start=start, tarballs=[])))
    assert (heard.end.reason, heard.end.needs) == ("", None)
    assert registry.state.stages == {}
    assert registry.uploads == registry.uploads[:1]


def test_it_ends_when_it_is_told_to(tmp_path: Path, registry: Registry) -> None:
    registry.faults = Faults(rates={Fault.FAIL_BEFORE: 1.0})
    process = started(job(tmp_path, registry))
    assert process.stdout is not None
    assert process.stdin is not None
    assert isinstance(DECODER.decode(process.stdout.readline()), StepBegins)
    process.stdin.write(b"{}\n")
    process.stdin.flush()
    while not registry.asked:
        pass
    process.terminate()
    heard = finished(process)
    assert heard.end.reason == "it was cancelled"
    assert heard.end.published == []
    assert registry.uploads == []


def test_another_file_than_the_one_that_was_packed_is_not_published(tmp_path: Path, registry: Registry) -> None:
    what = job(tmp_path, registry)
    what = msgspec.structs.replace(what, packages=[msgspec.structs.replace(what.packages[0], integrity="sha512-x")])
    heard = finished(started(what))
    assert heard.end.reason == "the package isn't the one that was packed"
    assert registry.asked == []


def test_a_comparison_needs_no_npm_and_tells_no_secret(tmp_path: Path, registry: Registry) -> None:
    said = {"name": "p", "version": "1.1.0", "scripts": {"postinstall": f"curl x?{TOKEN}"}}
    now, before = tmp_path / "now.tgz", tmp_path / "before.tgz"
    now.write_bytes(archive({"package.json": json.dumps(said)}))
    before.write_bytes(archive({"package.json": "{}", "gone.js": ""}))
    registry.state.have("p", "1.0.0")
    registry.packages["p"]["versions"]["1.0.0"]["dist"]["integrity"] = integrity(before)
    registry.state.contents["p/-/1.0.0.tgz"] = before.read_bytes()
    what = Job(
        attempt="7-1", build=7, project="p", target="npm", folder=str(tmp_path / "work"), compare=True,
        settings={"type": "npm", "registry": registry.url, "publish_at": "apiserver"},
        packages=[Package(file=f"package/{number}.tgz", name=name, version="1.1.0", integrity=integrity(now))
                  for number, name in enumerate(["p", "new"])],
        tarballs=[str(now), str(now)], secrets={"npm_token": TOKEN}, environment={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    end = finished(started(what)).end
    assert end.reason == ""
    one, two = end.compared
    assert (one.published, one.unknown, [each.path for each in one.removed]) == ("1.0.0", "", ["gone.js"])
    assert one.remarks[0].text.endswith("is new: curl x?***")
    assert one.remarks[0].after == "curl x?***"
    assert (two.published, two.unknown, two.remarks[0].level) == ("", "", "danger")
    assert {each.headers["authorization"] for each in registry.asked} == {f"Bearer {TOKEN}"}
    registry.state.contents["p/-/1.0.0.tgz"] = b"another"
    one, _two = finished(started(what)).end.compared
    assert one.unknown == "p@1.0.0 can't be fetched: the tarball isn't what the registry says of it"
