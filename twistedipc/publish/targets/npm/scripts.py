"""
The scripts of a package.json that npm runs around a publication, in its order
(https://docs.npmjs.com/cli/using-npm/scripts#life-cycle-operation-order). Pure; used by ``target``, in the runner.
"""

from __future__ import annotations

import codecs

import msgspec

from twistedipc.builds.recognition.reading import BadPlan

#: Those that npm runs before it packs a package that is to be published, and those that it runs afterwards.
BEFORE_PACKING = ("prepublishOnly", "prepack", "prepare")
AFTER_PACKING = ("postpack", "publish", "postpublish")


class _Package(msgspec.Struct):
    scripts: object = None


def package_scripts(package_json: bytes | None) -> frozenset[str]:
    """Return the names of a package.json's scripts; none without one (`npm pack` reports that). Raises `BadPlan`."""
    if package_json is None:
        return frozenset()
    try:
        package = msgspec.json.decode(package_json.removeprefix(codecs.BOM_UTF8), type=_Package)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadPlan(f"package.json can't be read: {error}") from error
    scripts = package.scripts if isinstance(package.scripts, dict) else {}
    return frozenset(name for name, command in scripts.items() if isinstance(command, str))
