"""The domain: states, records and digests, names, and the attempt's files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties import examples
from twistedipc.attempts.journal_format import BadJournalLine, journal_line, parse_journal_line, segment_name
from twistedipc.builds import names
from twistedipc.builds.attempt import Cancel, Failure, Published, Spec
from twistedipc.builds.logs import (
    MAX_BATCH_BYTES,
    PROGRESS_DIGITS,
    Annotation,
    Gap,
    Group,
    Lines,
    LogDigest,
    Notice,
    Progress,
    Record,
    StepEnded,
    StepStarted,
    Summary,
    batch_decoder,
    encoder,
    lines_decoder,
    trim,
    valid_shape,
)
from twistedipc.builds.states import (
    LEASED,
    RELEASE_STATES,
    STATES,
    TERMINAL,
    AttemptState,
    Cancellation,
    IllegalTransition,
    LeaseStatus,
    ReleaseState,
    check_attempt,
    check_release,
)
from twistedipc.disk.files import read_file, write_file
from twistedipc.publish import deliver, pack
from twistedipc.runner.checkout import __main__ as checkout

# -- states ----------------------------------------------------------------------------------------------------------


def test_tables_are_complete() -> None:
    assert list(STATES) == list(AttemptState)
    assert list(RELEASE_STATES) == list(ReleaseState)


def test_terminal_states_never_change() -> None:
    for before in TERMINAL:
        for after in AttemptState:
            with pytest.raises(IllegalTransition):
                check_attempt(before, after)
    assert {state for state, info in STATES.items() if not info.then} == TERMINAL


def test_each_pair_is_as_the_table_says() -> None:
    for before in AttemptState:
        for after in AttemptState:
            if after in STATES[before].then:
                check_attempt(before, after)
            else:
                with pytest.raises(IllegalTransition):
                    check_attempt(before, after)
    for one in ReleaseState:
        for other in ReleaseState:
            if other in RELEASE_STATES[one].then:
                check_release(one, other)
            else:
                with pytest.raises(IllegalTransition):
                    check_release(one, other)


def test_every_state_can_be_reached_and_left_for_an_end() -> None:
    reached = {AttemptState.QUEUED}
    for _ in AttemptState:
        reached |= {after for state in reached for after in STATES[state].then}
    assert reached == set(AttemptState)


@pytest.mark.parametrize("state", list(AttemptState))
def test_each_row_makes_sense(state: AttemptState) -> None:
    info = STATES[state]
    if not info.ended:
        assert AttemptState.CANCELLED in info.then, "whatever goes on can be cancelled"
    if info.cancel is Cancellation.BY_BUILDER:
        assert info.lease is not LeaseStatus.NONE, "a builder is asked only if one has it"
    if info.lease is LeaseStatus.HELD:
        assert {AttemptState.LOST, AttemptState.DISCONNECTED} - {state} <= info.then, "its builder may go away"
    if info.offerable:
        assert AttemptState.OFFERED in info.then
        assert info.cancel is Cancellation.AT_ONCE
    if info.reached is not None:
        assert info.lease is LeaseStatus.HELD
    assert (state in TERMINAL, state in LEASED) == (info.ended, info.lease is not LeaseStatus.NONE)


# -- records ---------------------------------------------------------------------------------------------------------

_records = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.builds(Notice, st.sampled_from(["info", "error"]), st.text(max_size=10)),
        st.builds(StepStarted, st.integers(0, 5), st.text(max_size=5), st.text(max_size=5)),
        st.builds(StepEnded, st.integers(0, 5), st.just("failed"), st.integers(0, 9), st.none() | st.integers(0, 255)),
        st.builds(
            Progress, st.integers(0, 1) | st.floats(0.0001, 0.9999).map(lambda value: round(value, 4)), st.text()
        ),
        st.builds(Annotation, st.just("error"), st.text(min_size=1), st.text(max_size=9), st.integers(0, 9)),
        st.builds(Summary, st.text()),
        st.builds(Group, st.text(max_size=9)),
    ),
    min_size=1,
    max_size=8,
)


@given(_records, st.integers(1, 10**12))
def test_a_batch_survives_its_json_and_its_journal_line(records: list[Record], first: int) -> None:
    batch = Lines(first=first, time=5, step=1, lines=records)
    assert lines_decoder.decode(encoder.encode(batch)) == batch
    line = journal_line(batch)
    assert line.count(b"\n") == 1
    assert parse_journal_line(line[:-1]) == batch
    with pytest.raises(BadJournalLine):
        parse_journal_line(line[:-2])


@given(st.lists(_records, max_size=4))
def test_a_digest_depends_on_records_and_not_on_batches(groups: list[list[Record]]) -> None:
    records = [record for group in groups for record in group]
    text = b"".join((r.encode() if isinstance(r, str) else encoder.encode(r)) + b"\n" for r in records)
    digest = LogDigest()
    for group in groups:
        digest.add(Lines(first=digest.count + 1, time=0, step=0, lines=group))
    assert (digest.count, digest.hexdigest()) == (len(records), hashlib.sha256(text).hexdigest())


@given(_records, st.integers(0, 20), st.sets(st.integers(0, 7)))
def test_trim(records: list[Record], first: int, more: set[int]) -> None:
    batch = Lines(first=5, time=0, step=0, lines=records, more=sorted(i for i in more if i < len(records)))
    rest = trim(batch, first)
    kept = records[max(0, first - 5) :]
    if not kept:
        assert rest is None
        return
    assert rest is not None
    assert rest.lines == kept
    assert rest.end == batch.end
    assert valid_shape(rest) or rest.first < 1
    assert [rest.first + i for i in rest.more] == [5 + i for i in batch.more if 5 + i >= rest.first]
    assert rest.end - rest.first == len(kept)


@given(st.integers(1, 30), st.integers(0, 9), st.integers(1, 50))
def test_a_gap_is_trimmed_as_lines_are(first: int, more: int, start: int) -> None:
    gap = Gap(first, first + more, "the journal is damaged")
    decoded = batch_decoder.decode(encoder.encode(gap))
    assert decoded == gap
    assert msgspec.to_builtins(gap) == {"type": "gap", "from": first, "to": first + more, "reason": gap.reason}
    assert valid_shape(gap)
    lines = Lines(first=first, time=0, step=0, lines=["x"] * (more + 1))
    rest, like = trim(gap, start), trim(lines, start)
    assert (rest is None) == (like is None)
    if rest is not None and like is not None:
        assert (rest.first, rest.end) == (like.first, like.end)
        assert rest.reason == gap.reason


def test_a_fraction_has_one_form_in_every_language() -> None:
    """Python's json writes 1.0 and 1e-05 where others write 1 and 0.00001: a digest over events can't have that."""
    for count in range(10**PROGRESS_DIGITS + 1):
        text = f'{{"type":"progress","value":{count / 10**PROGRESS_DIGITS:g}}}'
        assert encoder.encode(msgspec.json.decode(text, type=Progress)).decode() == text
        assert json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False) == text


def test_a_log_with_a_gap_has_no_digest() -> None:
    digest = LogDigest()
    digest.add(Lines(first=1, time=0, step=0, lines=["x"]))
    digest.add(Gap(2, 5, "the journal is damaged"))
    digest.add(Lines(first=6, time=0, step=0, lines=["y"]))
    assert (digest.count, digest.missing, digest.hexdigest()) == (6, 4, "")


@pytest.mark.parametrize(
    "batch",
    [
        Lines(first=0, time=0, step=0, lines=["x"]),
        Lines(first=1, time=-1, step=0, lines=["x"]),
        Lines(first=1, time=0, step=-2, lines=["x"]),
        Lines(first=1, time=0, step=0, lines=[]),
        Lines(first=1, time=0, step=0, lines=["x"], more=[1]),
        Lines(first=1, time=0, step=0, lines=["x"], more=[-1]),
        Lines(first=1, time=0, step=0, lines=["x", "y"], more=[1, 0]),
        Lines(first=1, time=0, step=0, lines=["x", "y"], more=[0, 0]),
    ],
)
def test_shapes_that_types_can_t_refuse(batch: Lines) -> None:
    assert not valid_shape(batch)


def test_the_worst_batch_fits_a_link_frame() -> None:
    worst = Lines(first=10**12, time=10**13, step=1, lines=["\x01" * MAX_BATCH_BYTES])
    assert len(encoder.encode(worst)) < 1024 * 1024 // 2


_BODY = encoder.encode(Lines(first=1, time=0, step=0, lines=["x"]))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"00000000 {}",
        b"zzzzzzzz {}",
        b"%08X" % zlib.crc32(_BODY) + b" " + _BODY,
        b"0000000-",
        journal_line(Lines(first=1, time=0, step=0, lines=["x"]))[1:-1],
    ],
)
def test_bad_journal_lines(line: bytes) -> None:
    with pytest.raises(BadJournalLine):
        parse_journal_line(line)


def test_a_journal_line_whose_checksum_is_right_and_whose_text_isn_t() -> None:
    for body in (b'{"type":"lines","first":1,"time":0,"step":0,"lines":["\xff"]}', b"[]", b"[" * 100_000):
        with pytest.raises(BadJournalLine):
            parse_journal_line(b"%08x %b" % (zlib.crc32(body), body))


# -- files -----------------------------------------------------------------------------------------------------------


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "cancel"
    assert read_file(path, Cancel) is None
    write_file(path, Cancel(reason="ü"), mode=0o600)
    assert read_file(path, Cancel) == Cancel(reason="ü")
    assert path.stat().st_mode & 0o777 == 0o600
    write_file(path, Cancel(reason="other"))
    assert read_file(path, Cancel) == Cancel(reason="other")
    assert [p.name for p in tmp_path.iterdir()] == ["cancel"]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"reason": 1}', b'{"reason": "\xff"}'])
def test_files_that_aren_t_what_they_should_be(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "cancel").write_bytes(data)
    with pytest.raises(msgspec.DecodeError):
        read_file(tmp_path / "cancel", Cancel)


def test_lists_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "published.json").write_bytes(b"[]")
    assert read_file(tmp_path / "published.json", list[Published]) == []


def test_segments_sort_as_their_numbers() -> None:
    assert sorted(map(segment_name, [10, 9, 100_000])) == [segment_name(9), segment_name(10), segment_name(100_000)]


def test_a_spec_holds_no_secret() -> None:
    assert not [name for name in Spec.__struct_fields__ if "token" in name or "secret" in name]


# -- names -----------------------------------------------------------------------------------------------------------

GOOD_ADDRESSES = [
    "https://git.example/team/site.git",
    "http://127.0.0.1:3000/a/b",
    "ssh://git@git.example:22/team/site.git",
    "git://git.example/site",
    "git@git.example:team/site.git",
    "https://[::1]:8080/x",
    # As hosts' "Clone" buttons give them.
    "https://john@bitbucket.example/acme/ui.git",
    "https://acme@dev.azure.example/acme/My%20Project/_git/ui",
    "git@ssh.dev.azure.example:v3/acme/My%20Project/ui",
    "ssh://git@bitbucket.example:7999/acme/ui.git",
    "https://git.example/scm/~ada/ui.git",
    "git@git.example:~ada/ui",
    "git@git.example:/srv/git/site.git",  # as one's own server is told of most often
    "git.example:/srv/git/site.git",
    "git@git.example:team/größe.git",
    "git@git.example:2222/team/site.git",
    "https://deploy-token-7@gitlab.example/acme/ui.git",
    "https://ada%40acme.example@git.example/x",
]
BAD_ADDRESSES = [
    "",
    "--upload-pack=touch x",
    "-oProxyCommand=x",
    "ext::sh -c true",
    "fd::17",
    "file:///etc",
    "/etc",
    "ssh://-oProxyCommand=x/y",
    "ssh://git@-oProxyCommand=x/y",
    "git@-oProxyCommand=x:y",
    "https://user:secret@git.example/x",
    "https://ghp_0123456789abcdefghijABCDEFGHIJ012345@git.example/x",
    "https://glpat-0123456789abcdefghij@git.example/x",
    "https://0123456789abcdef0123456789abcdef01234567@git.example/x",
    "https://@git.example/x",
    "git://user@git.example/x",
    "https://git.example",
    "https:///x",
    "https://git.example:port/x",
    "https://git.example:65536/x",
    "https://[x/y",
    "https://a\u2100b/x",
    "https://git.example/a\u202eb",
    "ssh://-x@git.example/y",
    "https://git.example/a b",
    "https://git.example/a\nb",
    "https://git.example/\0",
    "javascript:alert(1)",
    "host:-option",
    "host://path",
    "https:/git.example/x",
    "ssh:/git.example/x",
    "git:/srv/git/x",
    "file:/srv/git/x",
    "file:x",
    "ext://path",
    "C:/src/site",
    "git@git.example:a b",
    "git@git.example:/a\u202eb",
    "x" * 2000,
]


@pytest.mark.parametrize("address", GOOD_ADDRESSES)
def test_good_addresses(address: str) -> None:
    assert names.repository(address) == address


@pytest.mark.parametrize("address", BAD_ADDRESSES)
def test_bad_addresses(address: str) -> None:
    with pytest.raises(names.BadValue):
        names.repository(address)


@pytest.mark.parametrize(
    ("address", "host", "user"),
    [
        ("https://git.example/a/b.git", "https://git.example", ""),
        ("https://Ada%40x@GIT.example:443/a/b", "https://git.example", "Ada@x"),
        ("https://git.example:8443/a", "https://git.example:8443", ""),
        ("git@Git.example:a/b.git", "ssh://git.example", "git"),
        ("git.example:a/b.git", "ssh://git.example", ""),
        ("ssh://git@git.example:22/a", "ssh://git.example", "git"),
        ("ssh://git@git.example:2222/a", "ssh://git.example:2222", "git"),
        ("ssh://[::1]:2222/a", "ssh://[::1]:2222", ""),
        ("/srv/git/x", "", ""),
        ("file:///srv/git/x", "", ""),
    ],
)
def test_hosts_to_which_credentials_are_bound(address: str, host: str, user: str) -> None:
    assert (names.host(address), names.user(address)) == (host, user)


def test_an_address_with_a_token_says_where_one_goes() -> None:
    for address in ("https://user:secret@git.example/x", "https://ghp_abcdef@git.example/x"):
        with pytest.raises(names.BadValue, match="project secret NAME git_token"):
            names.repository(address)


def test_local_repositories_are_a_setting() -> None:
    assert names.repository("/srv/git/x", local=True)
    assert names.repository("file:///srv/git/x", local=True)
    with pytest.raises(names.BadValue):
        names.repository("file://host/x", local=True)


@pytest.mark.parametrize(
    "ref",
    ["main", "feature/x", "v1.2.3", "release-1", "a" * 40, "A" * 64, "refs/heads/main", "HEAD", "refs/pull/7/head",
     "@acme/ui@1.2.0", "feature/#123-menu", "fix/größe", "it's", 'say-"hi"', "a,b", "user(1)", "v=2", "x!y", "a%20b",
     "_x", "功能/登录", "a|b;c&d$e`f<g>", "👩\u200d💻", "a@", "@/x", "a.b.c", "x" * 1024],
)  # fmt: skip
def test_good_refs(ref: str) -> None:
    """`@acme/ui@1.2.0`, `feature/#123` and `fix/größe` are what tools and people name tags and branches."""
    assert names.ref(ref) == ref


@given(st.text(st.sampled_from("a.b/@{}lock-~^:?*[\\ \t\x7f\x85ü'\u2028"), max_size=12) | st.text(max_size=5))
@settings(max_examples=examples(60))
def test_refs_are_what_git_takes(ref: str) -> None:
    try:
        good = names.ref(ref) == ref
    except names.BadValue:
        good = False
    if "\0" in ref or ref.startswith("-") or any("\ud800" <= character <= "\udfff" for character in ref):
        assert not good or "\0" not in ref
        return
    command = ["git", "check-ref-format", "--allow-onelevel", ref]
    assert good == (subprocess.run(command, check=False).returncode == 0)


@pytest.mark.parametrize(
    "ref",
    ["", "-h", "--output=x", "..", "a..b", "a/../b", "/a", "a/", "a//b", "a.lock", "a.lock/b", "a b", "a\nb", "a\0",
     "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\", "@", "@{u}", "a@{1}", "a.", "a\x7f", "-x/y", ".a", "a/.b",
     "x" * 10_000, "main\n"],
)  # fmt: skip
def test_bad_refs(ref: str) -> None:
    with pytest.raises(names.BadValue):
        names.ref(ref)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (names.project, ["a", "my-site-2", "a" * 63], ["", "A", "-a", "a-", "a.b", "a/b", "../x", "a" * 64, "a\n"]),
        (names.node, ["builder-1", "host.example"], ["", "../x", ".x", "a/b", "a b", "a" * 65, "a\n"]),
        (names.attempt, ["1-1", "42-10"], ["", "0-1", "1-0", "1", "1-1-1", "../1-1", "1-1\n", "-1-1"]),
        (names.registry, ["", "https://r.example", "http://r_1:4873/npm/", "http://[::1]:1"],
         ["x", "https://", "https://u:p@r/", "https://r/?a", "https://r/#a", "https://r/ ", "ftp://r/", "https://[x/"]),
        (names.line, ["a b", "é"], ["", "a\nb", "a\u202eb", "a\0"]),
        (names.secret, ["a!~"], ["", "a b", "é", "a\n"]),
        (names.lease, ["0" * 16, "deadbeef" * 8], ["", "0" * 15, "0" * 65, "G" * 16, "../" * 6, "0" * 16 + "\n"]),
    ],
)  # fmt: skip
def test_names(check: object, good: list[str], bad: list[str]) -> None:
    assert callable(check)
    for name in good:
        assert check(name) == name
    for name in bad:
        with pytest.raises(names.BadValue):
            check(name)


@pytest.mark.parametrize("step", [checkout.main, pack.main, partial(deliver.main, name="npm")])
def test_a_step_of_ours_that_fails_on_a_full_disk_says_so_in_a_sentence(
    step: Callable[[Path], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    assert step(tmp_path) == 1
    said = capsys.readouterr().out.splitlines()
    assert "spec.json" in said[0] or "package.json" in said[0], said
    assert said[1:] == ["failure.json can't be written: No space left on device"]
    monkeypatch.undo()
    assert step(tmp_path) == 1
    failure = read_file(tmp_path / "failure.json", Failure)
    assert failure is not None
    assert failure.reason == said[0]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://npm.example.org", "https://NPM.Example.org:443//"),
        ("http://npm.example.org:80/team/", "http://npm.example.org/team"),
        ("https://npm.example.org.:443/", "https://npm.example.org"),
        ("https://[2001:DB8::1]:443/", "https://[2001:db8::1]"),
        ("ssh://git@git.example.org:22/shop.git", "ssh://git@git.example.org/shop.git/"),
        ("", ""),
    ],
)
def test_the_same_place(one: str, other: str) -> None:
    assert names.place(one) == names.place(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://npm.example.org/", "http://npm.example.org/"),
        ("https://npm.example.org/", "https://npm.example.org:444/"),
        ("https://npm.example.org/a", "https://npm.example.org/A"),
        ("https://npm.example.org/a", "https://npm.example.org/"),
        ("https://npm.example.org/", "https://npm.example.com/"),
        ("http://npm.example.org:443/", "http://npm.example.org/"),
        ("https://npm.example.org/", ""),
        ("git@git.example.org:a.git", "git@git.example.org:b.git"),
        ("ssh://a@git.example.org/x", "ssh://b@git.example.org/x"),
    ],
)
def test_another_place(one: str, other: str) -> None:
    assert names.place(one) != names.place(other)


def test_where_a_token_could_be_read_on_its_way() -> None:
    for registry in (
        "http://npm.example.org/",
        "http://10.0.0.1:4873/",
        "http://[2001:db8::1]/",
        "http://localhost.evil/",
    ):
        assert names.open_road(registry), registry
    for registry in ("", "https://npm.example.org", "http://127.0.0.1:4873", "http://127.1.2.3", "http://[::1]:1/"):
        assert not names.open_road(registry), registry
    assert not names.open_road("http://npm.localhost./")
