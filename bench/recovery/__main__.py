"""
``python -m bench.recovery [--row NAME]… [--quick]``

Both services as real processes, on the embedded default (SQLite, a UNIX socket), with durable journals and commits;
viewers on real WebSockets, all in this process. Rows: what happens, what must be reached, what was. One JSON line each
on stdout, and a table on stderr at the end. Exits with 1 if a bar isn't met, or a line is lost or doubled.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.recovery.crowd import run_reactor
from bench.recovery.rows import ROWS, Row


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--row", action="append", choices=ROWS, help="only this; may be given several times")
    parser.add_argument("--quick", action="store_true", help="few, short ones: does it work?")
    options = parser.parse_args()
    _allow_files()
    run_reactor()
    done: list[Row] = []
    for name in options.row or ROWS:
        with tempfile.TemporaryDirectory() as folder:
            for row in ROWS[name](Path(folder), options.quick):
                done.append(row)
                print(json.dumps(_figures(row)), flush=True)
    for row in done:
        met = "ok" if row.ok else "NOT MET"
        print(f"{row.what}: {row.value:.2f} (bar: {row.bar:g}) {row.unit}: {met}", file=sys.stderr)
    sys.exit(not all(row.ok for row in done))


def _figures(row: Row) -> dict[str, Any]:
    more = {name: round(value, 3) if isinstance(value, float) else value for name, value in row.more.items()}
    figures = {"value": round(row.value, 3), "unit": row.unit, "bar": row.bar, "ok": row.ok}
    # How busy the machine was meanwhile, with this and with whatever else runs on it.
    load = {"load": round(os.getloadavg()[0], 1)}
    return {"row": row.name, "what": row.what, **figures, **row.counts, **more, **load}


def _allow_files() -> None:
    """A thousand viewers need a file each, here and in the apiserver, which inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
