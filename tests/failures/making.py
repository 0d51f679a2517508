"""Lays a case out, runs its command as a step of a build is run, and tidies what it printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from tests.corpus.scaffolds import npm_registry
from tests.failures.cases import Case
from tests.failures.kits import KITS

#: Seconds for one command.
LIMIT = 300.0

#: What stands in the place of folders and hosts of the machine on which a case was made.
_SOURCE, _HOME, _KITS, _HOST = "/build/src", "/build/home", "/build/kits", "registry.example"


class NotMade(Exception):
    """A kit can't be installed, or a case didn't fail as it should."""


class Made(msgspec.Struct, frozen=True):
    """How a case was made: how its command ended, and by which versions."""

    exit: int
    tools: dict[str, str]


def install(kit: str, folder: Path) -> Path:
    """Install a kit in a folder of its own, unless it is there. Raises `NotMade`."""
    place = folder / kit
    if (place / "installed").exists():
        return place
    place.mkdir(parents=True, exist_ok=True)
    (place / "package.json").write_text(json.dumps({"name": "kit", "private": True, "version": "1.0.0"}))
    if KITS[kit]:
        command = ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", *KITS[kit].split()]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=4 * LIMIT, check=False)
        if done.returncode:
            raise NotMade(f"kit {kit}: {done.stderr[-2000:]}")
    (place / "installed").touch()
    return place


def make(case: Case, kits: Path, folder: Path) -> tuple[str, Made]:
    """Run a case in a folder that isn't there yet. Return what it printed, and how it was made. Raises `NotMade`."""
    kit = install(case.kit, kits)
    source, home = folder / "src", folder / "home"
    source.mkdir(parents=True)
    home.mkdir()
    if (kit / "node_modules").exists() and case.kit != "managers":
        # Links to the files, and not to the folder: tools look for the real path of what they load.
        subprocess.run(["cp", "-al", kit / "node_modules", source], check=True, timeout=LIMIT)
    for name, text in case.files.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    environment = _environment(source, home, kits, kit)
    if case.before:
        before = _run(case.before, source, environment)
        if before.returncode:
            raise NotMade(f"{case.name}: what comes before has failed:\n{before.stdout[-2000:]}")
    done = _run(case.command, source, environment)
    if not done.returncode:
        raise NotMade(f"{case.name} has succeeded:\n{done.stdout[-2000:]}")
    code = done.returncode if done.returncode > 0 else 128 - done.returncode
    return _tidied(done.stdout, source, home, kits), Made(code, _versions(case, kit))


def _environment(source: Path, home: Path, kits: Path, kit: Path) -> dict[str, str]:
    registry = npm_registry()
    kept = {name: os.environ[name] for name in ("PATH", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE") if name in os.environ}
    temporary = home / "tmp"
    temporary.mkdir()
    return {
        **kept,
        "PATH": f"{source / 'node_modules' / '.bin'}:{kept.get('PATH', os.defpath)}",
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "CI": "true",
        "FORCE_COLOR": "1",
        "npm_config_cache": str(home / "npm"),
        "npm_config_registry": registry,
        "npm_config_update_notifier": "false",
        "npm_config_fund": "false",
        "npm_config_audit": "false",
        "YARN_REGISTRY": registry,
        "YARN_NPM_REGISTRY_SERVER": registry.rstrip("/"),
        "YARN_ENABLE_TELEMETRY": "0",
        "NEXT_TELEMETRY_DISABLED": "1",
        "ASTRO_TELEMETRY_DISABLED": "1",
        "TURBO_TELEMETRY_DISABLED": "1",
        "NG_CLI_ANALYTICS": "false",
        "KIT": str(kit),
        "KITS": str(kits),
    }


def _run(command: str, source: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command],
        cwd=source,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=LIMIT,
        check=False,
    )


def _tidied(output: str, source: Path, home: Path, kits: Path) -> str:
    folder = source.parent
    for path, shown in ((source, _SOURCE), (home, _HOME), (kits, _KITS), (folder, "/build"), (folder.parent, "")):
        # As addresses of files have it, and without its root, as some tools show it.
        output = output.replace(str(path), shown).replace(str(path).lstrip("/"), shown.lstrip("/"))
    host = re.sub(r"^https?://|/$", "", npm_registry())
    output = output.replace(host, _HOST)
    return re.sub(r"\b(?:[\w-]+\.)*(?:npmjs|yarnpkg)\.(?:org|com)", _HOST, output)


def _versions(case: Case, kit: Path) -> dict[str, str]:
    """Return the versions of Node, npm, and what the kit was asked for."""
    tools = {"node": "node --version", "npm": "npm --version"}
    found = {
        name: subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout.strip().lstrip("v")
        for name, command in tools.items()
    }
    for asked in KITS[case.kit].split():
        if asked.startswith("-"):  # an option of npm's
            continue
        name = asked[0] + asked[1:].partition("@")[0]
        about = kit / "node_modules" / name / "package.json"
        found[name] = json.loads(about.read_text())["version"]
    return found


def tidy(folder: Path) -> None:
    """Remove what a case has left."""
    shutil.rmtree(folder, ignore_errors=sys.platform != "linux")
