"""
The measurements, a function each, in a folder that is empty before. The repositories are made by the corpus's
scaffolds, once a run; that isn't measured.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from bench.common.runs import Measured
from tests.corpus.look import get
from tests.corpus.projects import ROWS
from tests.corpus.rows import VERSIONS, Row
from tests.corpus.scaffolds import environment_of, make
from tests.integration.platform import DEADLINE, Platform, git, wait_for
from twistedipc.builds.recognition.recognise import recognise
from twistedipc.builds.settings import BuildSettings
from twistedipc.trees.folder import FolderTree

#: Seconds for one build.
_LIMIT = 300.0

_PACKAGES = 20
_STEPS = 40
_PNPM = f"pnpm@{VERSIONS['pnpm']}"


@functools.cache
def _made() -> Path:
    folder = tempfile.mkdtemp(prefix="twistedipc-bench-made-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@functools.cache
def _vite() -> Path:
    row = next(row for row in ROWS if row.name == "vite-react")
    return make(row, _made() / row.name, _made() / "npm-cache")


@functools.cache
def _monorepo() -> Path:
    packages = {}
    for number in range(1, _PACKAGES):
        before = {f"@acme/p{number - 1}": "workspace:*"} if number > 1 else {}
        packages[f"packages/p{number}/package.json"] = json.dumps(
            {
                "name": f"@acme/p{number}",
                "version": "1.0.0",
                "type": "module",
                "main": "dist/index.js",
                "scripts": {"build": "esbuild --bundle --format=esm --outfile=dist/index.js index.js"},
                "dependencies": before,
                "devDependencies": {"esbuild": "0.25.4"},
            }
        )
        imported = (
            f'import {{ text as before }} from "@acme/p{number - 1}";\n' if number > 1 else 'const before = "";\n'
        )
        packages[f"packages/p{number}/index.js"] = f'{imported}export const text = before + "{number} ";\n'
    row = Row(
        name="monorepo",
        framework="Vite",
        manager="pnpm",
        files={
            "package.json": json.dumps(
                {
                    "name": "monorepo",
                    "private": True,
                    "scripts": {"build": "turbo run build"},
                    "devDependencies": {"turbo": "2.5.0"},
                }
            ),
            "pnpm-workspace.yaml": 'packages:\n  - "apps/*"\n  - "packages/*"\n',
            "turbo.json": json.dumps({"tasks": {"build": {"dependsOn": ["^build"], "outputs": ["dist/**"]}}}),
            "apps/web/package.json": json.dumps(
                {
                    "name": "web",
                    "type": "module",
                    "scripts": {"build": "vite build"},
                    "dependencies": {f"@acme/p{_PACKAGES - 1}": "workspace:*"},
                    "devDependencies": {"vite": "6.3.5"},
                }
            ),
            "apps/web/index.html": '<!doctype html><title>Web</title><script type="module" src="/main.js"></script>\n',
            "apps/web/main.js": f'import {{ text }} from "@acme/p{_PACKAGES - 1}";\ndocument.title = text;\n',
            ".gitignore": "node_modules\ndist\n.turbo\n",
            **packages,
        },
    )
    return make(row, _made() / row.name, _made() / "npm-cache")


def first(folder: Path) -> Measured:
    """A build of a project that is new to the platform."""
    with Platform(folder) as platform:
        platform.add_project("app", _copy(_vite(), folder))
        seconds = _built(platform)
        _settled(folder)  # else something would still be written into the folder that is removed
        return Measured(seconds)


def second(folder: Path, kind: str = "auto") -> Measured:
    """The build of another commit, after one that has left what it keeps; ``kind`` of isolation."""
    repository = _copy(_vite(), folder)
    with Platform(folder, isolation={"kind": kind}) as platform:
        platform.add_project("app", repository)
        _built(platform)
        _settled(folder)
        _change(repository, "src/App.jsx")
        return Measured(_built(platform))


def step(folder: Path, kind: str) -> Measured:
    """One of many steps that do nothing, in milliseconds; ``kind`` of isolation."""
    with Platform(folder, isolation={"kind": kind}) as platform:
        steps = ", ".join('"true"' for _ in range(_STEPS))
        repository = platform.repository({".twistedipc.toml": f"[build]\nsteps = [{steps}]\n"})
        platform.add_project("app", repository, publish={})
        build = platform.build("app")
        platform.text(f"/api/v1/builds/{build}/log?follow=1")
        wait_for(f"build {build} has ended", lambda: platform.api("GET", f"/api/v1/builds/{build}")["ended"], _LIMIT)
        found = platform.api("GET", f"/api/v1/builds/{build}")["attempts"][0]["steps"]
    own = [each for each in found if each["command"] == "true"]
    if len(own) != _STEPS:
        raise AssertionError(f"{len(own)} steps, and not {_STEPS}")
    begin, end = (datetime.fromisoformat(text) for text in (own[0]["started"], own[-1]["ended"]))
    return Measured((end - begin).total_seconds() * 1000 / _STEPS)


def monorepo(folder: Path) -> Measured:
    """The build of another commit of the monorepo, which changes the site alone."""
    repository = _copy(_monorepo(), folder)
    with Platform(folder) as platform:
        platform.add_project("app", repository, settings={"root": "apps/web"})
        _built(platform)
        _settled(folder)
        _change(repository, "apps/web/main.js")
        return Measured(_built(platform))


def first_by_hand(folder: Path) -> Measured:
    """What a person types, on a machine that has never installed anything."""
    repository = _copy(_vite(), folder)
    return Measured(_by_hand(repository, folder, ["npm ci --no-audit --no-fund", "npm run build"]))


def second_by_hand(folder: Path) -> Measured:
    """The same again in another clone, with what npm has in its cache."""
    repository = _copy(_vite(), folder)
    commands = ["npm ci --no-audit --no-fund", "npm run build"]
    _by_hand(repository, folder, commands)
    _change(repository, "src/App.jsx")
    return Measured(_by_hand(repository, folder, commands))


def monorepo_by_hand(folder: Path) -> Measured:
    """The monorepo again in another clone, with what pnpm has in its store."""
    repository = _copy(_monorepo(), folder)
    # turbo looks for pnpm on the PATH.
    path = f'PATH="{_pnpm().parent}:$PATH"'
    commands = [f"{path} pnpm install --frozen-lockfile", f"{path} pnpm exec turbo run build --filter=web"]
    _by_hand(repository, folder, commands)
    _change(repository, "apps/web/main.js")
    return Measured(_by_hand(repository, folder, commands))


def recognition(folder: Path) -> Measured:
    """A repository whose root has 100 folders of 100 files each, beside a Vite project."""
    shutil.copytree(_vite(), folder / "app")
    for number in range(100):
        inner = folder / "app" / "src" / f"part{number}"
        inner.mkdir(parents=True)
        for count in range(100):
            (inner / f"file{count}.js").write_text("export {};\n")
    began = time.perf_counter()
    recognise(FolderTree(folder / "app"), BuildSettings())
    return Measured((time.perf_counter() - began) * 1000)


@functools.cache
def _pnpm() -> Path:
    """Install pnpm once, and return the program: what ``npx`` takes to start isn't the project's."""
    folder = _made() / "pnpm"
    folder.mkdir()
    _run(f"npm install --silent --prefix {folder} {_PNPM}", folder, environment_of(folder, _made() / "npm-cache"))
    return folder / "node_modules" / ".bin" / "pnpm"


def _copy(repository: Path, folder: Path) -> Path:
    copy = folder / "repository"
    shutil.copytree(repository, copy, symlinks=True)
    return copy


def _change(repository: Path, name: str) -> None:
    path = repository / name
    path.write_text(path.read_text() + "\n// changed\n")
    git(repository, "commit", "-qam", "Change it")


def _built(platform: Platform) -> float:
    """Ask for a build; the seconds until its release answers."""
    began = time.monotonic()
    build = platform.build("app")
    platform.text(f"/api/v1/builds/{build}/log?follow=1")  # as a person does: asking again and again costs time

    def ended() -> str:
        found = platform.api("GET", f"/api/v1/builds/{build}")
        return str(found["state"]) if found["ended"] else ""

    state = wait_for(f"build {build} has ended", ended, _LIMIT)
    answer = get(f"http://127.0.0.1:{platform.releases_port}", f"app.localhost:{platform.releases_port}", "/")
    seconds = time.monotonic() - began
    if state != "succeeded" or answer.status != 200:
        raise AssertionError(f"{state}, and the release answers {answer.status}\n{platform.log(build)[-3000:]}")
    return seconds


def _settled(folder: Path) -> None:
    """Wait until the builder has made ready what the next build takes: a person doesn't push twice a second."""
    caches = folder / "builder-data" / "caches"

    def ready() -> bool:
        entries = list(caches.glob("*/entries/*"))
        spares = {spare.name.partition(".")[0] for spare in caches.glob("*/spares/*")}
        return bool(entries) and all(entry.name in spares for entry in entries)

    wait_for("there is a spare of everything that is kept", ready, DEADLINE)


def _by_hand(repository: Path, folder: Path, commands: Sequence[str]) -> float:
    """Clone, and run the commands in the clone; the seconds."""
    clone = Path(tempfile.mkdtemp(dir=folder)) / "app"
    environment = environment_of(folder / "home", folder / "home" / "npm-cache")
    (folder / "home").mkdir(exist_ok=True)
    began = time.monotonic()
    for place, line in [(folder, f"git clone -q {repository} {clone}"), *((clone, line) for line in commands)]:
        _run(line, place, environment)
    return time.monotonic() - began


def _run(line: str, folder: Path, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_LIMIT,
    )
    if done.returncode != 0:
        raise AssertionError(f"{line} ended with exit code {done.returncode}:\n{done.stdout[-3000:]}")
