"""
`twistedipc conform`: our own ends keep to the document, each case has the document's words, and each can fail (the
table of faults of ``conform_wrong``).
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from click.testing import CliRunner

from tests.integration.platform import wait_for
from tests.ports import free_port
from twistedipc.conform.command import conform
from twistedipc.conform.meeting import About, Meeting
from twistedipc.conform.running import all_cases, try_all
from twistedipc.conform.wire import Failed, Wire

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")

#: What its ends answer by items, and by a long reply.
REPLIES = ("--items", '{"type": "rows"}', "--large", '{"type": "large"}')

#: A case of each chapter that needs an end that listens, or dials.
KEY = "00" * 16 + "11" * 16


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a UNIX socket's has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="conform-") as folder:
        key = Path(folder) / "key"
        key.touch(0o600)
        key.write_text(f"{KEY}\n")
        yield Path(folder)


@contextmanager
def our_end(what: str, folder: Path, *more: str, port: int = 0) -> Iterator[str]:
    """One of our own ends as a process; its address."""
    place = folder / "end.sock"
    endpoint = f"tls:{port}:interface=127.0.0.1" if port else f"unix:{place}"
    process = subprocess.Popen([sys.executable, "-m", "tests.conform_ends", what, endpoint, *more], cwd=ROOT)

    def is_there() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0 if port else place.exists()

    try:
        if what != "dial":
            wait_for("it listens", is_there, 30)
        yield f"tls:localhost:{port}" if port else f"unix:{place}"
    finally:
        process.kill()
        process.wait()


def tried(*words: str) -> tuple[int, list[dict[str, str]]]:
    """Run the command; its exit code, and what it says of each case."""
    done = CliRunner().invoke(conform, [*words, "--json"])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.exit_code, lines


def test_each_case_has_the_documents_words() -> None:
    plain = " ".join(TEXT.split())
    headings = set(re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE))
    cases = all_cases()
    assert [case.number for case in cases if " ".join(case.rule.split()) not in plain] == []
    assert [case.number for case in cases if case.section not in headings] == []
    assert len({case.number for case in cases}) == len({case.name for case in cases}) == len(cases)


def test_our_end_that_listens(folder: Path) -> None:
    key = str(folder / "key")
    with our_end("listen", folder, key) as address:
        more = ["--role", "tried-client", "--key", key, "--stream", "lines", "--item", '{"text": "x"}', *REPLIES]
        code, found = tried(address, *more)
    assert [(each["number"], each["why"]) for each in found if each["verdict"] == "failed"] == []
    assert code == 0
    passed = {each["number"] for each in found if each["verdict"] == "passed"}
    assert {"1.1", "1.15", "2.3", "2.13", "2.32", "2.37", "3.1", "4.11", "4.21", "4.26", "5.1", "5.5"} <= passed
    assert all(each["why"] for each in found if each["verdict"] == "not tried")


def test_our_second_service(folder: Path) -> None:
    key = str(folder / "key")
    with our_end("second", folder, key) as address:
        some = ["--role", "tried-client", "--service", "tried-server", "--key", key, "--only", "2", "--only", "4.7"]
        code, found = tried(address, *some)
    assert [(each["number"], each["why"]) for each in found if each["verdict"] == "failed"] == []
    assert code == 0
    passed = {each["number"] for each in found if each["verdict"] == "passed"}
    assert {"2.2", "2.9", "2.32", "2.41", "2.42", "2.43", "2.44", "4.7"} <= passed


def test_our_end_that_listens_at_tls(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    for side, host in (("server", "127.0.0.1"), ("client", "client")):
        certificate = authority.issue_cert(host, "localhost")
        certificate.private_key_pem.write_to_path(folder / f"{side}.key")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(folder / f"{side}.pem", append=True)
    key = str(folder / "key")
    files = ["--certificate", f"{folder}/client.pem", "--certificate-key", f"{folder}/client.key"]
    with our_end("listen", folder, key, str(folder), port=free_port()) as address:
        some = ["--role", "tried-client", "--key", key, "--only", "1", "--only", "2.13", "--only", "4.7"]
        code, found = tried(address, *some, *files, "--authority", f"{folder}/authority.pem")
        assert [(each["number"], each["why"]) for each in found if each["verdict"] != "passed"] == []
        assert code == 0
        done = CliRunner().invoke(conform, [address, *some])
        assert (done.exit_code, "can't be connected to: [SSL: CERTIFICATE_VERIFY_FAILED]" in done.output) == (5, True)


def test_our_server_of_plain_lines(folder: Path) -> None:
    with our_end("plain", folder) as address:
        code, found = tried(address, "--as", "plain")
    assert [each for each in found if each["verdict"] != "passed"] == []
    assert code == 0


@pytest.mark.long  # the cases that wait
def test_our_end_that_dials(folder: Path) -> None:
    key = str(folder / "key")
    with our_end("dial", folder, key) as address:
        code, found = tried(address, "--listen", "--slow", "--role", "tried-server", "--key", key, *REPLIES)
    assert [(each["number"], each["why"]) for each in found if each["verdict"] == "failed"] == []
    assert code == 0
    assert sum(each["verdict"] == "passed" for each in found) >= 52


def test_what_can_t_be_printed_is_no_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b'{"type":"x","text":"\\ud800"}\n')
        with pytest.raises(Failed, match="no JSON in UTF-8"):
            Wire(ours).frame()


@pytest.mark.parametrize("error", [ValueError("no number"), IndexError(), OverflowError(), KeyError("next")])
def test_a_case_that_meets_what_nobody_thought_of_has_failed(error: Exception, tmp_path: Path) -> None:
    def run(_: Meeting) -> None:
        raise error

    about = About(f"unix:{tmp_path}/nobody", False, "x-client")
    case = replace(all_cases()[0], run=run)
    (outcome,) = try_all(Meeting(about), [case])
    assert (outcome.verdict, type(error).__name__ in outcome.why) == ("failed", True)


def test_the_list_needs_nothing_else() -> None:
    done = CliRunner().invoke(conform, ["--list", "--as", "builder"])
    assert done.exit_code == 0
    assert "7.5   a build from its offer to its end  (Builder and apiserver)" in done.stdout
    assert "8.1" not in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "ADDRESS is missing"),
        (["somewhere"], 2, "--role is needed"),
        (["somewhere", "--as", "builder"], 2, "somewhere is no address"),
        (["unix:/nowhere/x", "--as", "builder", "--only", "99"], 2, "no case of a builder"),
        (["unix:/nowhere/x", "--as", "builder"], 5, "can't be connected to: No such file"),
        (["unix:/nowhere/x", "--as", "builder", "--listen"], 5, "can't be listened at"),
        (["unix:/nowhere/x", "--as", "builder", "--key", "/nowhere/key"], 2, "can't be read"),
    ],
)
def test_what_can_t_be_tried(words: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(conform, words)
    assert done.exit_code == code, done.output
    assert said in done.output
