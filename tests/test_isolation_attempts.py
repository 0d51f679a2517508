"""Whole attempts whose steps are isolated: real runners, sandboxes, git."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.attempt_folder import Attempt, repository, toml, until
from tests.test_isolation_bubblewrap import BWRAP, needs_bubblewrap, running
from twistedipc.builds.attempt import Cancel
from twistedipc.builds.isolation import Isolation
from twistedipc.disk.files import write_file

pytestmark = needs_bubblewrap

PATH = "/usr/local/bin:/usr/bin:/bin"


def attempt(base: Path, *steps: str, more: str = "", files: dict[str, str] | None = None, **changes: object) -> Attempt:
    (base / "data" / "mirrors").mkdir(parents=True, exist_ok=True)
    repository(base / "source", {".twistedipc.toml": toml(*steps, more=more), **(files or {})})
    isolation = Isolation(kind="bubblewrap", program=BWRAP, hidden=[str(base / "data")])
    return Attempt(base / "data", base / "source", path=PATH, isolation=isolation, **changes)  # type: ignore[arg-type]


def test_a_site_is_built_and_packed(tmp_path: Path) -> None:
    script = "mkdir dist && echo '<p>hello</p>' > dist/index.html && git log --format=%s && git status --short"
    one = attempt(tmp_path, script, more="output = 'dist'", site=True)
    result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert result.artifact is not None
    assert (one.folder / "archive.tar.gz").stat().st_size == result.artifact.size
    assert "first commit" in one.output(1)
    assert result.subject == "first commit"


def test_a_step_finds_neither_spec_nor_journal_nor_mirrors_of_others(tmp_path: Path) -> None:
    one = attempt(
        tmp_path, "ls -A ..; ls -A ../..; cat ../spec.json; find / -name '*.key' -newer /proc/1 2>/dev/null; true"
    )
    (tmp_path / "data" / "mirrors" / "other").mkdir()
    (tmp_path / "data" / "attempts" / "9-1-x").mkdir()
    result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    names = {"bin", "caches", "home", "tmp", "work", one.folder.name}
    listed = one.output(1)
    assert set(listed[:-1]) == names
    assert "No such file" in listed[-1]


def test_a_build_says_something_on_its_channel(tmp_path: Path) -> None:
    one = attempt(tmp_path, "twistedipc-say annotation warning 'look here'; echo after")
    result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert [each.message for each in one.annotations()] == ["look here"]
    assert one.output(1) == ["after"]


@pytest.mark.skipif(shutil.which("node", path=PATH) is None, reason="there is no node")
def test_a_node_program_says_something_on_its_channel(tmp_path: Path) -> None:
    script = "process.send({type: 'annotation', level: 'error', message: 'from node'}, () => process.disconnect())"
    one = attempt(tmp_path, f'node -e "{script}"')
    result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert [each.message for each in one.annotations()] == ["from node"]


def test_what_a_step_leaves_is_there_for_the_next_and_no_process_is(tmp_path: Path) -> None:
    name = f"66{os.getpid()}"
    one = attempt(
        tmp_path, f"setsid sleep {name} & echo x > file; echo y > $HOME/y; echo z > $TMPDIR/z", "cat file ~/y $TMPDIR/z"
    )
    result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
    assert one.output(2) == ["x", "y", "z"]
    assert not running(name)


def test_a_cancelled_step_may_take_its_time(tmp_path: Path) -> None:
    script = "trap 'echo ending; exit 7' TERM; echo begun; while :; do sleep 0.02; done"
    one = attempt(tmp_path, script, "echo never")
    one.start()
    until(lambda: "begun" in one.output(), "it begins")
    write_file(one.folder / "cancel", Cancel(reason="enough"))
    one.ring()
    result = one.wait()
    assert (result.outcome, result.reason) == ("cancelled", "enough")
    assert result.steps[-1].exit_code == 7
    assert "ending" in one.output()


def test_a_step_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    name = f"77{os.getpid()}"
    one = attempt(tmp_path, f"trap '' TERM; sleep {name}", timeout=4.0, grace=0.2)
    result = one.run()
    assert result.outcome == "timed_out"
    assert result.steps[-1].exit_code == 137
    assert not running(name)


def test_a_second_attempt_takes_from_the_mirror(tmp_path: Path) -> None:
    first = attempt(tmp_path, "true")
    assert first.run().outcome == "succeeded"
    second = attempt(
        tmp_path,
        "read mirror < .git/objects/info/alternates; git cat-file -t HEAD; touch $mirror/x || echo refused",
        name="2-1",
    )
    result = second.run()
    assert result.outcome == "succeeded", (result.reason, second.output())
    assert second.output(1)[0] == "commit"
    assert second.output(1)[-1] == "refused"


def test_what_the_operator_lets_builds_read_is_there(tmp_path: Path) -> None:
    (tmp_path / "fonts").mkdir()
    (tmp_path / "fonts" / "a.ttf").write_text("font\n")
    one = attempt(tmp_path, f"cat {tmp_path}/fonts/a.ttf; touch {tmp_path}/fonts/b || echo refused")
    isolation = replace(one.spec.isolation, readable=[str(tmp_path / "fonts")])
    write_file(one.folder / "spec.json", replace(one.spec, isolation=isolation))
    assert one.run().outcome == "succeeded"
    assert one.output(1)[0] == "font"
    assert one.output(1)[-1] == "refused"


def test_a_forged_finding_counts_for_nothing(tmp_path: Path) -> None:
    """What a build puts where a step of the platform's own will write is gone when that begins."""
    forge = """mkdir -p ../out && echo '{"reason": "forged"}' > ../out/failure.json"""
    script = f"mkdir dist && echo hi > dist/index.html; {forge} || true"
    one = attempt(tmp_path, script, more="output = 'dist'", site=True)
    result = one.run()
    assert result.outcome == "succeeded", (result.reason, one.output())
