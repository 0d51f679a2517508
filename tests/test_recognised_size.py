"""What a project says of itself may be long: no text of it leaves the runner whole."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from tests.attempt_folder import Attempt, repository
from tests.trees import TreeInMemory
from twistedipc.builds.recognition.recognise import recognise
from twistedipc.builds.recognition.recognised import MAX_TEXT, short, told
from twistedipc.builds.settings import BuildSettings

LONG = "x" * 300_000


@pytest.mark.parametrize("script", [{"build": f"vite build --outDir {LONG}"}, {f"build:{LONG}": "vite build"}])
def test_a_long_text_of_a_project_is_cut(script: dict[str, str]) -> None:
    tree = TreeInMemory({"package.json": {"scripts": script, "dependencies": {"vite": "6"}}})
    found = recognise(tree, BuildSettings())
    assert len(msgspec.json.encode(found.findings)) > len(LONG)
    assert all(len(line) < 4 * MAX_TEXT for line in told(found))
    assert all(len(text) <= MAX_TEXT for each in found.findings for text in (short(each).value, short(each).why))


def test_an_attempt_whose_command_is_too_long_ends(tmp_path: Path) -> None:
    package = {"scripts": {f"build:{LONG}": "vite build"}, "dependencies": {"vite": "6"}}
    source = tmp_path / "source"
    repository(source, {"package.json": json.dumps(package)})
    one = Attempt(tmp_path, source, name="1-1", settings=BuildSettings(install=""))
    result = one.run()
    assert (result.outcome, result.reason) == ("failed", "a command of the build has more than 32768 characters")
    assert len(msgspec.json.encode(result)) < 100_000
