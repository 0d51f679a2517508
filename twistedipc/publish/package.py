"""
What an npm package's tarball says of itself, and the rules by which it may be published. Pure but for reading the
tarball; used by ``pack`` (so that a hopeless package fails before anyone is asked) and by ``npm``.
"""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
import zlib
from pathlib import Path

import msgspec

_MAX_PACKAGE_JSON = 1024 * 1024
_MAX_MEMBERS = 100_000

# No name begins with "-": npm would take it for an option.
_NAME = re.compile(r"(?:@[a-z0-9~-][a-z0-9._~-]*/)?[A-Za-z0-9~][A-Za-z0-9._~-]*\Z")
_VERSION = re.compile(
    r"(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})\.(0|[1-9][0-9]{0,15})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\Z"
)
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}\Z")

# npm takes every key of publishConfig for a setting, over all others: a proxy or a lax TLS would give the token away.
# These are harmless, or (the second line) settings of other package managers that npm ignores.
_ALLOWED = frozenset(
    "access registry tag provenance"
    " bin browser cpu directory engines es2015 esnext executableFiles exports imports libc linkDirectory main module"
    " name os type types typesVersions typings umd:main unpkg".split()
)


class BadPackage(Exception):
    """The package can't be published as it is. ``str()`` of it is a sentence for its authors."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a package.json that decides about publishing."""

    name: str = ""
    version: str = ""
    private: bool | str = False
    publish_config: dict[str, object] = msgspec.field(default={}, name="publishConfig")

    @property
    def scope(self) -> str:
        """ "@scope", or "" if it has none."""
        return self.name.partition("/")[0] if self.name.startswith("@") else ""

    @property
    def tag(self) -> str:
        """publishConfig's dist-tag; "" if it has none."""
        return self._setting("tag")

    @property
    def registry(self) -> str:
        """publishConfig's registry; "" if it has none."""
        return self._setting("registry")

    def _setting(self, name: str) -> str:
        value = self.publish_config.get(name, "")
        return value if isinstance(value, str) else ""


def integrity(tarball: Path) -> str:
    """The tarball's integrity as npm has it: "sha512-" and base64."""
    with tarball.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def describe(tarball: Path) -> Description:
    """The package.json in a tarball. Raises `BadPackage`."""
    try:
        with tarfile.open(tarball, "r|gz") as members:
            for count, member in enumerate(members):
                if member.isfile() and member.name == "package/package.json":
                    file = members.extractfile(member)
                    if file is None or member.size > _MAX_PACKAGE_JSON:
                        raise BadPackage("the package's package.json is too large")
                    return msgspec.json.decode(file.read().removeprefix(b"\xef\xbb\xbf"), type=Description)
                if count > _MAX_MEMBERS:
                    break
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise BadPackage(f"the package's tarball can't be read: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPackage(f"the package's package.json can't be read: {error}") from error
    raise BadPackage("the package's tarball has no package.json")


def check(description: Description, registry: str = "") -> None:
    """
    Whether the package may be published (to ``registry``, where it is known), by all that can be known without asking
    the registry. Raises `BadPackage`.
    """
    if description.private:
        raise BadPackage('package.json says "private": true, so it isn\'t published')
    if not _NAME.match(description.name) or len(description.name) > 214:
        raise BadPackage("package.json needs a name that npm takes")
    version = _VERSION.match(description.version)
    if version is None:
        raise BadPackage("package.json needs a version like 1.2.3")
    for key in description.publish_config:
        if key not in _ALLOWED:
            raise BadPackage(f"package.json: publishConfig.{key[:100]} isn't allowed here")
    if "tag" in description.publish_config and not _TAG.match(description.tag):
        raise BadPackage("package.json: publishConfig.tag can't be the name of a tag")
    if version[4] is not None and not description.tag:
        raise BadPackage(
            f"{description.version} is a prerelease: it needs a tag of its own, so that it doesn't become latest"
            ' ("publishConfig": {"tag": "next"} in package.json)'
        )
    if registry and description.registry and _address(description.registry) != _address(registry):
        raise BadPackage(
            f"package.json: publishConfig.registry is {description.registry}, but this project publishes to {registry}"
        )


def older(version: str, than: str) -> bool:
    """Whether a version comes before another, by semver. False if one of them isn't a version."""
    first, second = _VERSION.match(version), _VERSION.match(than)
    if first is None or second is None:
        return False
    return _order(first) < _order(second)


def _order(version: re.Match[str]) -> tuple[tuple[int, ...], bool, list[tuple[bool, int, str]]]:
    prerelease = version[4].split(".") if version[4] is not None else []
    # Numbers come before words; a prerelease before the version itself.
    parts = [(False, int(part), "") if part.isdigit() else (True, 0, part) for part in prerelease]
    return (int(version[1]), int(version[2]), int(version[3])), version[4] is None, parts


def _address(registry: str) -> str:
    return registry.rstrip("/").lower()
