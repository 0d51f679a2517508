"""What a benchmark ran on."""

from __future__ import annotations

import datetime
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from bench.common.records import Machine

#: Packages whose versions are told, where they are installed.
PACKAGES = ("twisted", "autobahn", "msgspec", "websockets", "aiohttp", "socketify", "pyzmq", "redis", "hiredis")


def machine() -> Machine:
    """This machine, now."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    node = shutil.which("node")
    if node is not None:
        versions["node"] = subprocess.run(
            [node, "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
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
