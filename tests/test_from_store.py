"""
The process in which the apiserver publishes, with an npm of the test's own: a script, so that no registry is needed.
``integration/test_from_store.py`` has the real one.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec

from tests.test_compared import tarball
from twistedipc.builds.attempt import Package
from twistedipc.builds.logs import Lines
from twistedipc.publish.stored import Delivered, Job, Said
from twistedipc.publish.targets.npm.package import integrity
from twistedipc.runner.own import own_command

TOKEN = "npm_S3cretOfTheRegistry"

DECODER: msgspec.json.Decoder[Lines | Delivered] = msgspec.json.Decoder(Said)

#: Knows no package, and publishes as the rest says.
NPM = """#!/bin/sh
case "$1" in
  view) echo 'npm error code E404' >&2; exit 1 ;;
  publish) {publish} ;;
esac
"""


def job(tmp_path: Path, npm: str | None) -> Job:
    """What is to be done, where this is npm; None: there is none."""
    commands = tmp_path / "bin"
    commands.mkdir()
    if npm is not None:
        (commands / "npm").write_text(NPM.format(publish=npm))
        (commands / "npm").chmod(0o755)
    manifest = json.dumps({"name": "p", "version": "1.0.0"})
    file = tarball(tmp_path / "p.tgz", {"package.json": manifest, "index.js": "1"})
    return Job(
        attempt="7-1", build=7, project="p", target="npm",
        settings={"type": "npm", "registry": "http://127.0.0.1:9/", "publish_at": "apiserver"},
        packages=[Package(file="package/0.tgz", name="p", version="1.0.0", integrity=integrity(file))],
        tarballs=[str(file)], secrets={"npm_token": TOKEN}, folder=str(tmp_path / "work"),
        environment={"PATH": f"{commands}:/usr/bin:/bin" if npm is not None else str(commands)},
    )  # fmt: skip


def started(what: Job) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        own_command("twistedipc.runner.from_store"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(what))
    process.stdin.close()
    return process


def finished(process: subprocess.Popen[bytes]) -> tuple[str, Delivered]:
    """What it has said for the log, as text, and its end."""
    assert process.stdout is not None
    assert process.stderr is not None
    *batches, end = [DECODER.decode(line) for line in process.stdout]
    assert process.wait(20) == 0, process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    assert isinstance(end, Delivered)
    return msgspec.json.encode(batches).decode(), end


def test_without_npm_it_says_what_to_do(tmp_path: Path) -> None:
    _log, end = finished(started(job(tmp_path, None)))
    assert end.reason.startswith("there is no npm on the apiserver's PATH")


def test_the_token_is_in_no_line_and_nothing_is_left(tmp_path: Path) -> None:
    log, end = finished(
        started(job(tmp_path, 'echo "with $NODE_AUTH_TOKEN"; ls ..; echo npm error code EOTP >&2; exit 1'))
    )
    assert end.reason.startswith("p@1.0.0 isn't published: the registry wants a one-time password")
    assert "with ***" in log
    assert TOKEN not in log
    assert not (tmp_path / "work").exists()


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    process = started(job(tmp_path, "echo begun; exec sleep 60"))
    assert process.stdout is not None
    for line in process.stdout:
        if b"begun" in line:
            break
    process.terminate()
    _log, end = finished(process)
    assert end.reason == "it was cancelled"
    assert end.published == []


def test_of_an_output_without_end_the_beginning_is_told(tmp_path: Path) -> None:
    what = job(tmp_path, "yes | head -c 3000000; echo npm error code EOTP >&2; exit 1")
    log, end = finished(started(what))
    assert 1 << 20 <= len(log) < 5_000_000
    assert "the rest is left out" in log
    assert "one-time password" in end.reason


def test_another_file_than_the_one_that_was_packed_is_not_published(tmp_path: Path) -> None:
    what = job(tmp_path, "echo published")
    what = msgspec.structs.replace(what, packages=[msgspec.structs.replace(what.packages[0], integrity="sha512-x")])
    log, end = finished(started(what))
    assert end.reason == "the package isn't the one that was packed"
    assert "published" not in log.replace("publish_at", "")
