"""The registry of targets: what it refuses, and what forms and options are made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from msgspec.structs import replace

from twistedipc.builds.attempt import Publish
from twistedipc.builds.names import BadValue
from twistedipc.publish.targets.fields import fields_of
from twistedipc.publish.targets.npm.target import Npm, NpmSettings
from twistedipc.publish.targets.registry import TARGETS, Targets, name_of, needed_for, with_flat
from twistedipc.publish.targets.static.target import Static
from twistedipc.publish.targets.target import Settings, Target, option
from twistedipc.publish.targets.unknown import UnknownSettings

REGISTRY = "https://r.example/npm/"


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
    assert needed_for((NpmSettings(),)) == {"stored"}
    assert needed_for((NpmSettings(paused=True), *TARGETS.default)) == frozenset()
    assert needed_for((NpmSettings(publish_at="builder"),)) == frozenset()
    TARGETS.add(Shelf())
    try:
        shelf = ShelfSettings(place="x")
        assert needed_for((*TARGETS.default, shelf)) == {"target:shelf"} == TARGETS.features
        assert needed_for((UnknownSettings(said={"type": "gone"}),)) == frozenset()
    finally:
        TARGETS.remove("shelf")


@pytest.mark.parametrize(
    ("said", "stored", "by"), [("", True, None), ("apiserver", True, None), ("builder", False, "the builder")]
)
def test_who_publishes_npm_packages(said: str, stored: bool, by: str | None) -> None:
    settings = NpmSettings(publish_at=said)
    assert Npm().is_stored(settings) is stored
    assert Npm().details(settings).get("published by") == by
    always = NpmSettings(publish_at=said, staging="always")
    if stored:
        Npm().check(always)
    else:
        with pytest.raises(BadValue, match="a builder publishes directly, so staging can't be always"):
            Npm().check(always)
    with pytest.raises(BadValue, match="publish_at is apiserver or builder, not 'Builder'"):
        Npm().check(NpmSettings(publish_at="Builder"))


def test_whoever_publishes_knows_the_registry(tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path)}
    assert "name the registry (--registry ADDRESS)" in Npm().lacks(NpmSettings(), nothing)
    assert Npm().lacks(NpmSettings(), nothing | {"npm_config_REGISTRY": ""})
    for settings, environment in (
        (NpmSettings(registry="https://r.example/"), nothing),
        (NpmSettings(), nothing | {"npm_config_registry": "https://r.example/"}),
    ):
        assert Npm().lacks(settings, environment) == ""
    npm = tmp_path / "npm"
    npm.touch(mode=0o755)
    assert Npm().lacks(NpmSettings(), nothing) == ""


@pytest.mark.parametrize(
    "before",
    [
        NpmSettings(publish_at="builder"),
        NpmSettings(publish_at="builder", registry="https://r.example/", packages=["x"]),
        NpmSettings(),
    ],
)
def test_the_flat_form_leaves_what_it_cant_say(before: NpmSettings) -> None:
    """A project that an old caller pauses and takes up again is published by who has published it before."""
    paused = with_flat((before,), Publish())
    assert paused == (() if before == NpmSettings() else (NpmSettings(publish_at="builder", paused=True),))
    again = with_flat(paused, Publish(npm=True, registry=before.registry, packages=before.packages))
    assert again == (before,)


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


# -- by what one signs in at a registry


def test_what_is_needed_where_a_registry_trusts_the_apiserver() -> None:
    npm = TARGETS.get("npm")
    assert npm is not None
    assert [(each.name, each.audience) for each in npm.secrets_for(NpmSettings(registry=REGISTRY))] == [
        ("npm_token", "")
    ]
    by_word = NpmSettings(registry=REGISTRY, auth="oidc")
    npm.check(by_word)
    assert [(each.name, each.audience) for each in npm.secrets_for(by_word)] == [("npm_id_token", "npm:r.example")]
    (named,) = npm.secrets_for(replace(by_word, audience="registry"))
    assert named.audience == "registry"
    assert npm.details(by_word)["signs in"] == "by OIDC, for npm:r.example"
    assert "id-tokens" in needed_for((replace(by_word, publish_at="builder"),))
    assert "id-tokens" not in needed_for((replace(by_word, publish_at="apiserver"),))


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"auth": "password"}, "auth is token or oidc, not 'password'"),
        ({"auth": "oidc", "registry": ""}, "with oidc the project must name its registry"),
        ({"auth": "oidc", "audience": "two words"}, "audience is 1 to 200 characters"),
        ({"audience": "x" * 201}, "audience is 1 to 200 characters"),
    ],
)
def test_settings_by_which_nobody_can_sign_in(settings: dict[str, str], why: str) -> None:
    npm = TARGETS.get("npm")
    assert npm is not None
    with pytest.raises(BadValue, match=why):
        npm.check(msgspec.convert({"type": "npm", "registry": REGISTRY} | settings, NpmSettings))
