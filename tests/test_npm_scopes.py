"""Registries of scopes: what a project may say of them, and that each package and each token goes to its own alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.npm_memory import tarball
from tests.registry import TOKEN, Account, Registry, running
from twistedipc.builds.attempt import Package
from twistedipc.builds.names import BadValue
from twistedipc.publish.asking import Look, Question
from twistedipc.publish.record import MemoryRecord
from twistedipc.publish.targets.npm.looking import PublishFailed
from twistedipc.publish.targets.npm.package import integrity
from twistedipc.publish.targets.npm.places import token_of
from twistedipc.publish.targets.npm.tarballs import BadPackage
from twistedipc.publish.targets.npm.target import Npm, NpmSettings
from twistedipc.publish.targets.registry import TARGETS, needed_for
from twistedipc.publish.targets.target import CantDeliver, Delivery

NPM = Npm()
ACME = "https://npm.acme.example/"
BOTH = NpmSettings(registry="https://r.example/", scopes=[f"@acme={ACME}", "@word=oidc+https://w.example/npm/"])
OTHER_TOKEN = "npm_AnotherRegistrysToken"


# -- settings ----------------------------------------------------------------------------------------------------------


def test_where_packages_go_and_what_is_needed_there() -> None:
    NPM.check(BOTH)
    assert [NPM.package_place(BOTH, name) for name in ("@acme/ui", "@acme-other/ui", "acme", "@word/x")] == [
        "https://npm.acme.example",
        "https://r.example",
        "https://r.example",
        "https://w.example/npm",
    ]
    assert [secret.name for secret in NPM.secrets_for(BOTH)] == ["npm_token", "npm_token@acme", "npm_id_token@word"]
    assert [secret.name for secret in NPM.secrets_for(BOTH, ["@acme/ui", "@acme/base"])] == ["npm_token@acme"]
    (word,) = NPM.secrets_for(BOTH, ["@word/x"])
    assert word.audience == "npm:w.example"
    assert len({secret.variable for secret in NPM.secrets_for(BOTH)}) == 3
    assert list(NPM.contacts(BOTH)) == ["https://r.example/", ACME, "https://w.example/npm/"]
    assert NPM.details(BOTH)["packages of @acme"] == ACME
    assert {"scopes", "stored"} <= needed_for((BOTH,))
    assert {"scopes", "id-tokens"} <= needed_for((msgspec.structs.replace(BOTH, publish_at="builder"),))
    assert NPM.secret_place(BOTH, "npm_token@acme") == "https://npm.acme.example"
    assert NPM.secret_place(BOTH, "npm_token@other") is None


def test_no_registry_gets_a_word_that_is_for_another() -> None:
    """It could publish there with it."""
    named = msgspec.structs.replace(BOTH, auth="oidc", audience="https://r.example/custom")
    audiences = {secret.name: secret.audience for secret in NPM.secrets_for(named)}
    assert audiences["npm_id_token"] == "https://r.example/custom"
    assert audiences["npm_id_token@word"] == "npm:w.example"


def test_the_names_of_their_tokens() -> None:
    assert TARGETS.secret("npm_token@acme") is not None
    for name in ("npm_token@", "npm_token@A", "npm_token@a/b", "other@acme", "npm_token@@acme"):
        assert token_of(name) is None, name


@pytest.mark.parametrize(
    ("scopes", "why"),
    [
        (["acme=https://r.example/"], "scopes are like @acme=https://npm.acme.example/"),
        (["@acme"], "scopes are like"),
        (["@acme="], "scopes are like"),
        (["@acme/ui=https://r.example/"], "scopes are like"),
        (["@acme=ftp://r.example/"], "a registry's address begins with https://"),
        (["@acme=https://user:secret@r.example/"], "a registry's address begins with https://"),
        (["@acme=https://a.example/", "@acme=https://b.example/"], "the scope @acme has two registries"),
        ([f"@s{number}=https://r.example/" for number in range(51)], "at most 50 scopes"),
    ],
)
def test_rows_that_can_not_be(scopes: list[str], why: str) -> None:
    with pytest.raises(BadValue, match=why):
        NPM.check(NpmSettings(scopes=scopes))


def test_a_registry_that_changed_meanwhile_is_named() -> None:
    now = msgspec.structs.replace(BOTH, scopes=["@acme=https://else.example/"])
    assert NPM.moved(BOTH, now, "shop") == (
        "the registry of the packages of @acme of project shop has changed since this build began, from "
        f"{ACME} to https://else.example/: build again"
    )
    gone = msgspec.structs.replace(BOTH, scopes=[])
    assert "from https://npm.acme.example/ to https://r.example/: build again" in NPM.moved(BOTH, gone, "shop")
    assert NPM.moved(BOTH, BOTH, "shop") == ""


# -- publishing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def registries() -> Iterator[tuple[Registry, Registry]]:
    with running() as one, running() as other:
        other.state.accounts = {OTHER_TOKEN: Account()}
        yield one, other


def delivery(folder: Path, manifests: Sequence[dict[str, Any]], secrets: dict[str, str]) -> Delivery:
    packages = []
    for number, manifest in enumerate(manifests):
        (folder / str(number)).mkdir()
        path = tarball(folder / str(number), manifest)
        packages.append(
            Package(
                file=f"{number}/{path.name}",
                name=manifest["name"],
                version=manifest["version"],
                integrity=integrity(path),
            )
        )
    record = MemoryRecord(len(packages))
    return Delivery(
        folder=folder, out=folder, packages=packages, secrets=secrets, record=record, set_tag="build-7", asks=False
    )


def settings_of(registries: tuple[Registry, Registry]) -> NpmSettings:
    return NpmSettings(registry=registries[0].url, scopes=[f"@acme={registries[1].url}"], staging="never")


SET: list[dict[str, Any]] = [
    {"name": "base", "version": "1.0.0"},
    {"name": "@acme/ui", "version": "1.0.0", "dependencies": {"base": "^1.0.0"}},
]
SECRETS = {"npm_token": TOKEN, "npm_token@acme": OTHER_TOKEN}


def test_each_token_goes_to_its_registry_alone(tmp_path: Path, registries: tuple[Registry, Registry]) -> None:
    done = list(NPM.deliver(settings_of(registries), delivery(tmp_path, SET, SECRETS)))
    assert [(each.name, each.registry) for each in done] == [
        ("base", registries[0].url),
        ("@acme/ui", registries[1].url),
    ]
    for registry, name, own in ((registries[0], "base", TOKEN), (registries[1], "@acme/ui", OTHER_TOKEN)):
        assert registry.uploaded == [name]
        assert {each.headers.get("authorization") for each in registry.asked} == {f"Bearer {own}"}
        assert registry.packages[name]["dist-tags"] == {"latest": "1.0.0"}


def test_a_registry_that_takes_no_token_and_nothing_is_published(
    tmp_path: Path, registries: tuple[Registry, Registry]
) -> None:
    registries[1].state.private = True
    with pytest.raises(PublishFailed, match=r"whether @acme/ui@1\.0\.0 is there: the registry doesn't take"):
        list(NPM.deliver(settings_of(registries), delivery(tmp_path, SET, {**SECRETS, "npm_token@acme": "wrong"})))
    assert registries[0].uploads == []


def test_what_a_package_says_must_be_what_its_scope_says(tmp_path: Path, registries: tuple[Registry, Registry]) -> None:
    one, other = registries
    settings = settings_of(registries)
    good = [SET[0], {**SET[1], "publishConfig": {"registry": other.url}}]
    (tmp_path / "good").mkdir()
    assert len(list(NPM.deliver(settings, delivery(tmp_path / "good", good, SECRETS)))) == 2
    wrong = [SET[0], {**SET[1], "version": "1.0.1", "publishConfig": {"registry": one.url}}]
    (tmp_path / "wrong").mkdir()
    before = len(one.asked)
    with pytest.raises(
        BadPackage,
        match=f"publishConfig.registry is {one.url}, but this project publishes packages of @acme to {other.url}",
    ):
        list(NPM.deliver(settings, delivery(tmp_path / "wrong", wrong, SECRETS)))
    assert len(one.asked) == before


def test_npm_is_not_needed_where_all_packages_have_a_registry(
    tmp_path: Path, registries: tuple[Registry, Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The project names none for others, and there is no npm that would know one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in [name for name in os.environ if name.upper() == "NPM_CONFIG_REGISTRY"]:
        monkeypatch.delenv(name)
    settings = NpmSettings(scopes=[f"@acme={registries[1].url}"], staging="never")
    assert NPM.lacks(msgspec.structs.replace(settings, packages=["@acme/*"]), {"PATH": str(tmp_path)}) == ""
    assert "no registry is named" in NPM.lacks(settings, {"PATH": str(tmp_path)})
    ui = {"name": "@acme/ui", "version": "1.0.0"}
    (tmp_path / "a").mkdir()
    assert len(list(NPM.deliver(settings, delivery(tmp_path / "a", [ui], SECRETS)))) == 1
    (tmp_path / "b").mkdir()
    with pytest.raises(CantDeliver, match="no registry is named"):
        list(NPM.deliver(settings, delivery(tmp_path / "b", SET, SECRETS)))


def test_each_registry_is_asked_for_its_packages(tmp_path: Path, registries: tuple[Registry, Registry]) -> None:
    settings = settings_of(registries)
    list(NPM.deliver(settings, delivery(tmp_path, SET, SECRETS)))
    question = Question(
        target="npm",
        settings=json.loads(msgspec.json.encode(settings)),
        secrets=SECRETS,
        looks=[Look(name="base"), Look(name="@acme/ui")],
    )
    seen = NPM.ask(settings, question).seen
    assert [(each.name, each.registry, dict(each.tags)) for each in seen] == [
        ("base", registries[0].url, {"latest": "1.0.0"}),
        ("@acme/ui", registries[1].url, {"latest": "1.0.0"}),
    ]
    assert {each.headers.get("authorization") for each in registries[1].asked} == {f"Bearer {OTHER_TOKEN}"}
