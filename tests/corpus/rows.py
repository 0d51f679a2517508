"""What a row of the corpus is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Manager = Literal["npm", "pnpm", "yarn 1", "yarn 4", "bun", ""]

#: The managers by which lock files are made, each of an exact version.
VERSIONS: Mapping[str, str] = {
    "npm": "10.9.2",
    "pnpm": "10.11.0",
    "yarn 1": "1.22.22",
    "yarn 4": "4.9.1",
    "bun": "1.2.10",
}


class Seen(msgspec.Struct, frozen=True):
    """What an address of the release has to answer."""

    path: str
    status: int = 200
    text: str = ""  # must be in the body


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A project of the corpus."""

    name: str
    framework: str  # as the platform is to recognise it; "" if there is none
    manager: Manager = "npm"
    scaffold: tuple[str, ...] = ()  # a package that makes a project, and its arguments: the project's folder is "app"
    scaffold_folder: str = "app"
    files: Mapping[str, str] = {}  # written over what the scaffold made
    settings: Mapping[str, object] = {}  # of the platform's project; none: with nothing configured
    lock: bool = True  # a lock file is made and committed
    see: tuple[Seen, ...] = ()
    refusal: str = ""  # not empty: the build must fail, and its reason must say this
    node: str = ""  # the beginning of the version of Node that must run the build
    quick: bool = False  # one of those that CI builds
    slow: bool = False  # takes more than two minutes
