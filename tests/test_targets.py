"""The registry of targets: what it refuses, and what forms and options are made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from twistedipc.builds.names import BadValue
from twistedipc.publish.targets.fields import fields_of
from twistedipc.publish.targets.registry import TARGETS, Targets, name_of, needed_for
from twistedipc.publish.targets.static.target import Static
from twistedipc.publish.targets.target import Settings, Target, option
from twistedipc.publish.targets.unknown import UnknownSettings


class ShelfSettings(Settings, frozen=True, kw_only=True, tag="shelf"):
    """With a field of each kind."""

    place: Annotated[str, option("Where.", flag="--place")]
    labels: Annotated[list[str], option("Which.", flag="--label")] = msgspec.field(default_factory=list)
    depth: Annotated[float | None, option("How deep.", flag="--depth")] = None
    high: Annotated[int, option("How high.", flag="--high")] = 1
    dusty: Annotated[bool, option("Whether.", flag="--dusty")] = False
    inside: str = ""


class Shelf(Target[ShelfSettings]):
    """Keeps nothing, though it says so."""

    name = "shelf"
    what = "shelf"
    settings = ShelfSettings
    delivered_by = "apiserver"


def test_the_fields_that_people_may_set() -> None:
    found = [(field.name, field.kind, field.required) for field in fields_of(Shelf())]
    assert found == [
        ("place", "text", True),
        ("labels", "list", False),
        ("depth", "number", False),
        ("high", "number", False),
        ("dusty", "switch", False),
    ]


def test_what_the_apiserver_delivers_has_to_be_kept(tmp_path: Path) -> None:
    targets = Targets()
    targets.add(Static())
    assert targets.releases(tmp_path).keys() == {"static"}
    assert [path.name for path in tmp_path.iterdir()] == ["releases"]
    targets.add(Shelf())
    with pytest.raises(ValueError, match="the target shelf is delivered by the apiserver"):
        targets.releases(tmp_path)


def test_what_builders_need_for_it() -> None:
    assert needed_for(TARGETS.default) == frozenset(), "every builder knows these"
    TARGETS.add(Shelf())
    try:
        shelf = ShelfSettings(place="x")
        assert needed_for((*TARGETS.default, shelf)) == {"target:shelf"} == TARGETS.features
        assert needed_for((UnknownSettings(said={"type": "gone"}),)) == frozenset()
    finally:
        TARGETS.remove("shelf")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_one_that_is_not_known_is_kept_as_it_is(order: Sequence[int]) -> None:
    given: list[dict[str, object]] = [
        {"type": "static"},
        {"type": "npm", "registry": "https://npm.example/"},
        {"type": "gone", "paused": True},
    ]
    listed = [given[index] for index in order]
    kept = TARGETS.read_kept(listed)
    assert [name_of(settings) for settings in kept] == ["static", "npm", "gone"]
    assert TARGETS.write(kept) == given
    assert [name_of(settings) for settings in TARGETS.active(kept)] == ["static", "npm"]
    assert TARGETS.why_not(TARGETS.active(kept)) == "", "it is paused"
    with pytest.raises(BadValue, match="'gone'"):
        TARGETS.read(listed)
    with pytest.raises(BadValue, match="'gone'"):
        TARGETS.read_request(listed)
    assert TARGETS.read_request(listed, kept) == kept
