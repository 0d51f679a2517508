"""The demo's registry, as the platform's own client of registries finds it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.package_registry import archive
from twistedipc.cli.registry import DemoRegistry, demo_registry
from twistedipc.publish.targets.npm.client import Client
from twistedipc.publish.targets.npm.registry import Found, Kind
from twistedipc.registries.connection import Connection
from twistedipc.registries.npmrc import Npmrc

NAME, TOKEN = "@demo/text", "the-demo-s"


@pytest.fixture
def registry() -> Iterator[DemoRegistry]:
    with demo_registry(TOKEN) as registry:
        yield registry


def client(registry: DemoRegistry, token: str = TOKEN) -> Client:
    return Client(registry.url, token, Connection(Npmrc({}), {}))


def tarball(folder: Path, version: str) -> Path:
    path = folder / f"{version}.tgz"
    path.write_bytes(archive({"package.json": json.dumps({"name": NAME, "version": version}), "index.js": version}))
    return path


def test_a_version_is_published_found_and_fetched_as_it_was(registry: DemoRegistry, tmp_path: Path) -> None:
    one = client(registry)
    assert one.look(NAME).kind is Kind.ABSENT  # type: ignore[union-attr]
    assert one.has_staging() is False
    packed = tarball(tmp_path, "1.0.0")
    assert one.upload(packed, tag="build-7").kind is Kind.DONE
    found = one.look(NAME)
    assert isinstance(found, Found)
    assert found.tags == {"build-7": "1.0.0"}
    assert one.fetch(NAME, "1.0.0", tmp_path / "got.tgz", 1 << 20).kind is Kind.DONE
    assert (tmp_path / "got.tgz").read_bytes() == packed.read_bytes()
    assert one.upload(packed, tag="latest").kind is Kind.TAKEN


def test_tags_lead_to_versions_that_are_there(registry: DemoRegistry, tmp_path: Path) -> None:
    one = client(registry)
    for version in ("1.0.0", "1.1.0"):
        one.upload(tarball(tmp_path, version), tag="next")
    assert one.set_tag(NAME, "latest", "1.0.0").kind is Kind.DONE
    assert one.set_tag(NAME, "latest", "3.0.0").kind is not Kind.DONE
    assert registry.tags_of(NAME) == {"latest": "1.0.0", "next": "1.1.0"}
    assert one.remove_tag(NAME, "next").kind is Kind.DONE
    assert one.remove_tag(NAME, "next").kind is not Kind.DONE
    assert registry.tags_of(NAME) == {"latest": "1.0.0"}


def test_nothing_is_changed_without_the_token(registry: DemoRegistry, tmp_path: Path) -> None:
    other = client(registry, "another")
    assert other.upload(tarball(tmp_path, "1.0.0"), tag="latest").kind is Kind.DENIED
    assert other.set_tag(NAME, "latest", "1.0.0").kind is Kind.DENIED
    assert registry.tags_of(NAME) is None


@pytest.mark.parametrize(
    ("where", "body", "status"),
    [
        ("@demo%2ftext", b"{", 400),
        ("@demo%2ftext", b'{"name": "@demo/text", "versions": {}, "dist-tags": {}, "_attachments": {}}', 409),
        ("-/package/@demo%2ftext/dist-tags/latest", b"1", 400),
        ("-/package/@demo%2ftext/dist-tags/latest", b'"1.0.0"', 404),
    ],
)
def test_what_is_no_upload_is_refused(registry: DemoRegistry, where: str, body: bytes, status: int) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(registry.url + where, method="PUT", data=body, headers=headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as error:
        assert error.code == status
