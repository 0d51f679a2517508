"""
The document by which a version is published: a JSON object with its manifest and its tarball, in base64. It is the one
that npm sends for the same tarball, but for what names the client: ``_npmVersion``, ``_nodeVersion``, ``_from`` and
``_resolved`` (the tarball's path at the client) aren't in it. Used by ``client``.

A tarball is never in memory as a whole.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import msgspec

from twistedipc.publish.targets.npm.manifest import Contents, Manifest, is_text, prepare
from twistedipc.publish.targets.npm.package import Description, check_identity
from twistedipc.publish.targets.npm.tarballs import MAX_TARBALL, BadPackage, check_size, read_contents

#: The most bytes of a provenance bundle.
MAX_PROVENANCE = 4 << 20

_BLOCK = 3 << 18  # three bytes are four characters


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A tarball that can be published."""

    path: Path
    size: int
    sha1: str  # hexadecimal
    sha512: str  # base64
    manifest: Manifest

    @property
    def name(self) -> str:
        """The package's name."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """Its version, without build metadata: a registry knows none."""
        return str(self.manifest["version"])

    @property
    def access(self) -> str:
        """publishConfig's access; "" if it has none."""
        settings = self.manifest.get("publishConfig")
        access = settings.get("access") if isinstance(settings, dict) else ""
        return access if access in ("public", "restricted") else ""


class Document:
    """The document, as the body of a request: its bytes come in blocks."""

    def __init__(self, packed: Packed, head: bytes, tail: bytes) -> None:
        self._packed = packed
        self._head, self._tail = head, tail

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return len(self._head) + (self._packed.size + 2) // 3 * 4 + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        left = self._packed.size
        with self._packed.path.open("rb") as file:
            while left > 0:
                block = file.read(min(_BLOCK, left))
                if not block or (len(block) < min(_BLOCK, left)):
                    raise OSError(0, "the tarball has become shorter while it was sent", str(self._packed.path))
                left -= len(block)
                yield base64.b64encode(block)
        yield self._tail


def read_packed(path: Path, limit: int = MAX_TARBALL) -> Packed:
    """Look into a tarball that is to be published. Raises `BadPackage`, or OSError."""
    size = check_size(path, limit)
    sha1, sha512 = hashlib.sha1(usedforsecurity=False), hashlib.sha512()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            sha1.update(block)
            sha512.update(block)
    contents = read_contents(path, keep=lambda path, size: is_text(path))
    try:
        check_identity(msgspec.json.decode(contents.package_json, type=Description))
    except msgspec.DecodeError as error:
        raise BadPackage(f"the package's package.json can't be read: {error}") from error
    integrity = base64.b64encode(sha512.digest()).decode()
    found = Contents(
        manifest=contents.manifest,
        paths=_with_folders(contents.files),
        texts={path: text.decode("utf-8", "replace") for path, text in contents.texts.items()},
    )
    manifest = {**prepare(found), "_integrity": f"sha512-{integrity}"}
    return Packed(path=path, size=size, sha1=sha1.hexdigest(), sha512=integrity, manifest=manifest)


def _with_folders(files: Iterable[str]) -> set[str]:
    """The paths of files, and of the folders that they are in."""
    paths: set[str] = set()
    for path in files:
        while path and path not in paths:
            paths.add(path)
            path = posixpath.dirname(path)
    return paths


def document(packed: Packed, registry: str, *, tag: str, access: str = "", provenance: bytes | None = None) -> Document:
    """
    Return the document that publishes a tarball. Raises `BadPackage` if the provenance isn't a bundle.

    :param registry: the registry's address, with a final slash
    :param access: "public" or "restricted"; "" is what package.json says, or else the registry's default
    :param provenance: a Sigstore bundle, as JSON
    """
    name, version = packed.name, packed.version
    file = f"{name}-{version}.tgz"
    manifest = {
        **packed.manifest,
        "dist": {
            **_given_dist(packed.manifest),
            "integrity": f"sha512-{packed.sha512}",
            "shasum": packed.sha1,
            # npm writes http also for https, so that old clients behind a mirror find it.
            "tarball": "http://" + urljoin(registry, f"{name}/-/{file}").partition("://")[2],
        },
    }
    root: dict[str, Any] = {
        "_id": name,
        "name": name,
        **({"description": manifest["description"]} if "description" in manifest else {}),
        "dist-tags": {tag: version},
        "versions": {version: manifest},
        "access": access or packed.access or None,
    }
    attached = msgspec.json.encode(file) + b':{"content_type":"application/octet-stream","data":"'
    head = msgspec.json.encode(root)[:-1] + b',"_attachments":{' + attached
    tail = b'","length":%d}' % packed.size
    if provenance is not None:
        bundle = _bundle(provenance)
        tail += b"," + msgspec.json.encode({f"{name}-{version}.sigstore": bundle})[1:-1]
    return Document(packed, head, tail + b"}}")


def _given_dist(manifest: Manifest) -> dict[str, Any]:
    given = manifest.get("dist")
    return given if isinstance(given, dict) else {}


def _bundle(provenance: bytes) -> dict[str, object]:
    """The attachment of a provenance."""
    if len(provenance) > MAX_PROVENANCE:
        raise BadPackage(f"the provenance has more than {MAX_PROVENANCE} bytes")
    try:
        found = msgspec.json.decode(provenance)
        kind = found["mediaType"]
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError) as error:
        raise BadPackage("the provenance isn't a Sigstore bundle: it has no mediaType") from error
    text = msgspec.json.encode(found).decode()
    # JavaScript counts a text in units of UTF-16.
    return {"content_type": kind, "data": text, "length": len(text.encode("utf-16-le")) // 2}
