"""What isolates builds on a machine, as a builder finds it at its start; and how its operator says what must."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.test_isolation_bubblewrap import needs_bubblewrap
from twistedipc.builds.isolation import Isolation
from twistedipc.isolation.probe import Wanted, bubblewraps, find_isolation
from twistedipc.taps.config import ConfigError, load_builder


def find(kind: str = "auto", *, data: str = "/nowhere") -> Isolation:
    return find_isolation(Wanted(kind=kind, path=os.environ["PATH"], data=data, readable=["/srv"], hidden=[data]))


@needs_bubblewrap
def test_what_works_is_found_with_its_version() -> None:
    found = find()
    assert (found.kind, found.refused) == ("bubblewrap", "")
    assert found.program in bubblewraps()
    assert found.program in found.said
    assert (found.readable, found.hidden) == (["/srv"], ["/nowhere"])


def test_that_nothing_isolates_has_to_be_said() -> None:
    found = find("none")
    assert (found.kind, found.refused) == ("none", "")
    assert "not isolated" in found.said


def test_a_colon_in_the_data_folder_is_refused() -> None:
    assert "colon" in find(data="/a:b").refused


@pytest.mark.parametrize("text", ['isolation = "none"\n', '[isolation]\nkind = "none"\n'])
def test_both_ways_to_say_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "builder.toml"
    file.write_text('data = "data"\nlink.listen = ["unix:link"]\n' + text)
    assert load_builder(file).isolation.kind == "none"
    assert load_builder(file).isolation.readable == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('isolation = "chroot"', "there is no chroot"),
        ('isolation.readable = ["data/attempts"]', "lies in the builder's data folder"),
        ('isolation.readable = ["/"]', "is the whole machine"),
    ],
)
def test_what_can_not_be_wanted(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "builder.toml"
    file.write_text('data = "data"\nlink.listen = ["unix:link"]\n' + text)
    with pytest.raises(ConfigError, match=sentence):
        load_builder(file)
