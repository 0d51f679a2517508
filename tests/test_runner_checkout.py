"""The checkout step, with real git: refs, the mirror, and what a repository or a build may have poisoned."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.attempt_folder import Attempt, git, repository, toml, until
from twistedipc.builds.attempt import Publish, Result
from twistedipc.disk.files import write_file
from twistedipc.runner.checkout import working_copy as checkout
from twistedipc.runner.checkout.git import CheckoutFailed

SHOW = ".twistedipc.toml", toml("cat file; git rev-parse HEAD; git status --porcelain")


def source(base: Path) -> tuple[Path, str, str]:
    """A repository with two commits on main, a tag at the first, a branch: its path and the commits."""
    path = base / "source"
    first = repository(path, {SHOW[0]: SHOW[1], "file": "one"})
    git(path, "tag", "-a", "-m", "a tag", "v1")
    git(path, "branch", "feature/x")
    second = repository(path, {"file": "two"}, message="second\n\nbody")
    return path, first, second


@pytest.mark.parametrize(
    "ref", ["main", "v1", "feature/x", "refs/heads/main", "heads/main", "tags/v1", "FIRST", "FIRST10", "SECOND"]
)
def test_refs(tmp_path: Path, ref: str) -> None:
    path, first, second = source(tmp_path)
    ref = {"FIRST": first, "FIRST10": first[:10], "SECOND": second}.get(ref, ref)
    expected = second if ref in ("main", "refs/heads/main", "heads/main", second) else first
    one = Attempt(tmp_path, path, ref=ref)
    result = one.run()
    assert result.outcome == "succeeded", one.output()
    assert result.commit == expected
    assert one.output(1)[0] == ("two" if expected == second else "one") + expected
    assert len(one.output(1)) == 1  # the working copy is clean


def test_a_branch_comes_before_a_tag_and_both_before_a_commit(tmp_path: Path) -> None:
    path, first, second = source(tmp_path)
    git(path, "tag", first[:8], second)
    assert Attempt(tmp_path, path, ref=first[:8]).run().commit == second


def test_the_id_of_a_tag_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    """An annotated tag is an object of its own, whose id looks as a commit's does."""
    path, first, _second = source(tmp_path)
    tag = git(path, "rev-parse", "v1")
    assert tag != first
    said = f"{tag} is the id of no commit in .*: it stands for the commit {first}, .* or for the tag by its name"
    for number in (1, 2):  # the second time it is in the mirror already
        with pytest.raises(CheckoutFailed, match=said):
            check_out(tmp_path, path, tag, f"{number}-1")
    assert check_out(tmp_path, path, "v1", "3-1") == first


@pytest.mark.parametrize(
    "ref",
    ["@acme/ui@1.2.0", "refs/tags/@acme/ui@1.2.0", "feature/#123-menu", "fix/größe", "it's", "a,b", "user(1)", "v=2",
     "x!y", "a%20b", "1234567", "_x", "功能/登录", "👩\u200d💻", "@/x", "HEAD", "heads/main", "tags/@acme/ui@1.2.0",
     "refs/pull/7/head", "pull/7/head", "refs/merge-requests/2/head", "UPPER", "UPPER10", "PULL", "notes/x"],
)  # fmt: skip
def test_refs_of_all_kinds(tmp_path: Path, ref: str) -> None:
    """Names that git has, and that were refused, or "no branch, tag or commit"."""
    path, first, second = source(tmp_path)
    git(path, "tag", "@acme/ui@1.2.0")
    for branch in ("feature/#123-menu", "fix/größe", "it's", "a,b", "user(1)", "v=2", "x!y", "a%20b", "1234567", "_x",
                   "功能/登录", "👩\u200d💻", "@/x", "notes/x"):  # fmt: skip
        git(path, "branch", branch)
    third = repository(path, {"file": "three"})
    for name in ("refs/pull/7/head", "refs/merge-requests/2/head"):
        git(path, "update-ref", name, third)
    git(path, "reset", "--quiet", "--hard", "HEAD~1")
    pulled = ref in ("PULL", "refs/pull/7/head", "pull/7/head", "refs/merge-requests/2/head")
    ref = {"UPPER": first.upper(), "UPPER10": first[:10].upper(), "PULL": third}.get(ref, ref)
    expected = third if pulled else first if ref[:10].lower() == first[:10] else second
    assert check_out(tmp_path, path, ref) == expected


def check_out(base: Path, path: Path, ref: str, name: str = "1-1") -> str:
    """The checkout step alone, here: the commit that it finds."""
    one = Attempt(base, path, name=name, ref=ref)
    checked_out = checkout.check_out(one.folder, now=lambda: 7)
    assert checked_out.resolved == 7
    write_file(one.folder / "checkout.json", checked_out)
    assert git(one.folder / "work", "rev-parse", "HEAD") == checked_out.commit
    return checked_out.commit


def test_a_ref_that_is_moved_or_deleted(tmp_path: Path) -> None:
    """Neither a pull request nor HEAD is remembered from the time before."""
    path, first, second = source(tmp_path)
    git(path, "update-ref", "refs/pull/7/head", first)
    assert check_out(tmp_path, path, "refs/pull/7/head", "1-1") == first
    git(path, "update-ref", "refs/pull/7/head", second)
    assert check_out(tmp_path, path, "refs/pull/7/head", "2-1") == second
    git(path, "update-ref", "-d", "refs/pull/7/head")
    with pytest.raises(CheckoutFailed, match="there is no branch, tag or commit refs/pull/7/head"):
        check_out(tmp_path, path, "refs/pull/7/head", "3-1")
    assert check_out(tmp_path, path, "HEAD", "4-1") == second
    git(path, "checkout", "--quiet", "feature/x")
    assert check_out(tmp_path, path, "HEAD", "5-1") == first


def test_a_branch_becomes_a_folder_of_branches_and_back(tmp_path: Path) -> None:
    path, _first, second = source(tmp_path)
    for number, branch in enumerate(["rel", "rel/1", "rel/1/2", "rel"]):
        git(path, "branch", branch)
        git(path, "tag", branch)
        assert check_out(tmp_path, path, branch, f"{number + 1}-1") == second
        git(path, "branch", "-D", branch)
        git(path, "tag", "-d", branch)


@pytest.mark.parametrize(
    ("ref", "patterns", "found"),
    [
        ("main", ["main"], "refs/heads/main"),
        ("feature/x", ["main"], "refs/heads/main"),  # it is merged there
        ("main", ["feature/*"], ""),
        ("FIRST", ["feature/*"], "refs/heads/feature/x"),
        ("v1", ["tags/v*"], "refs/tags/v1"),
        ("main", ["tags/v*"], ""),
        ("main", ["tags/**", "HEAD"], "refs/heads/main"),
        ("main", ["feature"], ""),  # a folder of branches is no branch
        ("refs/pull/7/head", ["refs/pull/7/head"], "refs/pull/7/head"),
        ("refs/pull/7/head", ["main", "nothing/*"], ""),
        ("HEAD", ["nothing"], ""),
    ],
)
def test_which_protected_ref_has_the_commit(tmp_path: Path, ref: str, patterns: list[str], found: str) -> None:
    path, first, _second = source(tmp_path)
    third = repository(path, {"file": "three"})
    git(path, "update-ref", "refs/pull/7/head", third)
    git(path, "reset", "--quiet", "--hard", "HEAD~1")
    one = Attempt(tmp_path, path, ref=first if ref == "FIRST" else ref, protected=patterns, head="HEAD" in patterns)
    protected = checkout.check_out(one.folder, now=lambda: 7).protected
    assert protected == (ref if ref in patterns else found)


def test_what_is_for_users_is_not_built_of_a_commit_that_was_pushed_away(tmp_path: Path) -> None:
    """An attempt is tried again, of the commit that its ref had led to; the mirror still has it."""
    path, first, second = source(tmp_path)
    assert Attempt(tmp_path, path, protected=["main"], context="production").run().protected == "main"
    git(path, "reset", "--quiet", "--hard", first)
    result = Attempt(tmp_path, path, name="2-1", commit=second, protected=["main"], context="production").run()
    assert (result.outcome, result.protected) == ("failed", "")
    assert "isn't on the protected ref (main) of demo" in result.reason
    assert [step.name for step in result.steps] == ["checkout"]
    preview = Attempt(tmp_path, path, name="3-1", commit=second, protected=["main"]).run()
    assert (preview.outcome, preview.protected) == ("succeeded", "")


def test_what_is_for_an_environment_is_built_only_of_the_refs_that_lead_there(tmp_path: Path) -> None:
    """Its name may be that of a tag, and its commit may have been pushed away since: secrets would go along."""
    path, first, second = source(tmp_path)

    def built(name: str, refs: list[str], **how: Any) -> Result:
        return Attempt(tmp_path, path, name=name, environment_name="staging", refs=refs, **how).run()

    assert built("1-1", ["main"]).outcome == "succeeded"
    assert built("2-1", ["feature/*"], commit=first).outcome == "succeeded"
    git(path, "reset", "--quiet", "--hard", first)
    for name, refs, how in (("3-1", ["main"], {"commit": second}), ("4-1", ["v1"], {"ref": "tags/v1"})):
        git(path, "branch", "-f", "feature/x", first)
        result = built(name, refs, **how)
        assert result.outcome == "failed"
        assert f"isn't on a ref that leads to the environment staging of demo ({refs[0]})" in result.reason
        assert [step.name for step in result.steps] == ["checkout"]


def sha256_source(path: Path) -> str:
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main", "--template=", "--object-format=sha256")
    return repository(path, {SHOW[0]: toml("git rev-parse HEAD; mkdir dist; echo hi >dist/index.html"), "file": "x"})


def test_a_repository_with_sha256_ids(tmp_path: Path) -> None:
    """Such a repository couldn't be fetched: "fatal: mismatched algorithms"."""
    path = tmp_path / "source"
    first = sha256_source(path)
    second = repository(path, {"file": "two"})
    result = Attempt(tmp_path, path, publish=Publish(static=True)).run()
    assert (result.outcome, result.commit) == ("succeeded", second), result.reason
    assert result.artifact is not None
    for number, ref in enumerate([first, first[:12], first.upper(), "HEAD", "refs/heads/main", second[:40]]):
        expected = second if number > 2 else first
        assert check_out(tmp_path, path, ref, f"{number + 2}-1") == expected
    path.rename(tmp_path / "gone")
    assert check_out(tmp_path, path, first, "9-1") == first  # it is here already
    assert not (tmp_path / "mirrors/demo").exists()


def test_a_repository_that_becomes_one_with_sha256_ids(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Or that was empty when it was looked at first."""
    path = tmp_path / "source"
    path.mkdir()
    git(path, "init", "--quiet", "--bare", "--template=")
    with pytest.raises(CheckoutFailed, match="there is no branch, tag or commit main"):
        check_out(tmp_path, path, "main", "1-1")
    path.rename(tmp_path / "empty")
    commit = sha256_source(path)
    assert check_out(tmp_path, path, "main", "2-1") == commit
    assert "The repository's ids are SHA-256 now" in capfd.readouterr().out
    path.rename(tmp_path / "old")
    back = repository(path, {"file": "x"})
    assert check_out(tmp_path, path, "main", "3-1") == back
    path.rename(tmp_path / "gone")
    with pytest.raises(CheckoutFailed, match="can't be fetched"):
        check_out(tmp_path, path, "main", "4-1")


def test_when_the_ref_was_resolved(tmp_path: Path) -> None:
    """The time decides which release is newer; an attempt that repeats another resolves nothing."""
    path, first, _second = source(tmp_path)
    before = time.time() * 1000
    result = Attempt(tmp_path, path, ref="main").run()
    assert before - 1 <= result.resolved <= time.time() * 1000
    assert Attempt(tmp_path, path, name="1-2", ref="main", commit=first).run().resolved == 0


@pytest.mark.parametrize("ref", ["nowhere", "0" * 40, "deadbeef"])
def test_no_such_ref(tmp_path: Path, ref: str) -> None:
    path, _first, _second = source(tmp_path)
    result = Attempt(tmp_path, path, ref=ref).run()
    assert (result.outcome, result.reason) == ("failed", f"there is no branch, tag or commit {ref} in {path}")


def test_no_such_repository(tmp_path: Path) -> None:
    result = Attempt(tmp_path, tmp_path / "nothing").run()
    assert result.outcome == "failed"
    assert result.reason.startswith(f"{tmp_path / 'nothing'} can't be fetched: there is no such repository")


def test_no_git(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    path, _first, _second = source(tmp_path)
    result = Attempt(tmp_path, path, path=str(tmp_path / "bin")).run()
    assert (result.outcome, result.reason) == ("failed", "the builder has no git on its PATH")


def test_the_mirror_follows(tmp_path: Path) -> None:
    path, _first, second = source(tmp_path)
    assert Attempt(tmp_path, path, name="1-1").run().commit == second
    git(path, "reset", "--quiet", "--hard", "HEAD~1")
    git(path, "branch", "-D", "feature/x")
    git(path, "branch", "feature")  # where a folder of branches was
    third = repository(path, {"file": "three"})
    assert Attempt(tmp_path, path, name="2-1").run().commit == third
    assert Attempt(tmp_path, path, name="3-1", ref="feature/x").run().outcome == "failed"
    assert Attempt(tmp_path, path, name="4-1", ref="feature").run().outcome == "succeeded"


def test_a_commit_that_is_there_needs_no_fetch(tmp_path: Path) -> None:
    path, first, _second = source(tmp_path)
    assert Attempt(tmp_path, path, name="1-1").run().outcome == "succeeded"
    path.rename(tmp_path / "gone")
    one = Attempt(tmp_path, path, name="1-2", ref="main", commit=first)
    assert one.run().commit == first
    assert one.output(0) == [f"Commit {first} is here already.", f"Commit {first}: first commit"]


def test_waits_for_the_mirror_s_lock_and_says_so(tmp_path: Path) -> None:
    path, _first, second = source(tmp_path)
    (tmp_path / "mirrors").mkdir()
    lock = os.open(tmp_path / "mirrors" / "demo.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    one = Attempt(tmp_path, path)
    one.start()
    until(lambda: one.output() == ["Waiting: another build is fetching the same repository …"], "it says so")
    os.close(lock)
    assert one.wait().commit == second


def test_two_at_once(tmp_path: Path) -> None:
    path, _first, second = source(tmp_path)
    both = [Attempt(tmp_path, path, name=f"{n}-1") for n in (1, 2, 3)]
    for one in both:
        one.start()
    assert [one.wait().commit for one in both] == [second] * 3


def test_locks_of_a_killed_fetch_are_no_obstacle(tmp_path: Path) -> None:
    path, _first, _second = source(tmp_path)
    assert Attempt(tmp_path, path, name="1-1").run().outcome == "succeeded"
    mirror = tmp_path / "mirrors" / "demo"
    third = repository(path, {"file": "three"})
    for name in ("packed-refs.lock", "config.lock", "refs/heads/main.lock"):
        (mirror / name).touch()
    assert Attempt(tmp_path, path, name="2-1").run().commit == third


def test_a_poisoned_mirror_runs_nothing(tmp_path: Path) -> None:
    path, _first, _second = source(tmp_path)
    assert Attempt(tmp_path, path, name="1-1").run().outcome == "succeeded"
    mirror = tmp_path / "mirrors" / "demo"
    proof = tmp_path / "poisoned"
    (mirror / "hooks").mkdir(exist_ok=True)
    for hook in ("post-checkout", "reference-transaction", "post-update", "pre-auto-gc"):
        script = mirror / "hooks" / hook
        script.write_text(f"#!/bin/sh\ntouch '{proof}'\n")
        script.chmod(0o755)
    with (mirror / "config").open("a") as config:
        config.write(f"[core]\n\tfsmonitor = touch '{proof}'\n\tsshCommand = touch '{proof}'\n\thooksPath = hooks\n")
        config.write(f'[url "ext::touch {proof}"]\n\tinsteadOf = {path}\n')
    third = repository(path, {"file": "three"})
    assert Attempt(tmp_path, path, name="2-1").run().commit == third
    assert not proof.exists()


def test_a_build_s_own_settings_reach_no_other_build(tmp_path: Path) -> None:
    path = tmp_path / "source"
    repository(
        path,
        {".twistedipc.toml": toml("git config --global alias.x '!true'; echo x=1 >>~/.npmrc; ls -A ~; git config -l")},
    )
    assert Attempt(tmp_path, path, name="1-1").run().outcome == "succeeded"
    two = Attempt(tmp_path, path, name="2-1")
    assert two.run().outcome == "succeeded"
    assert [line for line in two.output(1) if line.startswith(".")] == [".gitconfig", ".npmrc"]
    assert "core.hookspath=/dev/null" in two.output(1)


@pytest.mark.parametrize("address", ["ext::sh -c true", "fd::17", "--upload-pack=touch x"])
def test_git_refuses_other_protocols_by_itself(tmp_path: Path, address: str) -> None:
    # Names are checked before; this is the second fence.
    source(tmp_path)
    one = Attempt(tmp_path, tmp_path / "source")
    spec = one.folder / "spec.json"
    spec.write_text(spec.read_text().replace(str(tmp_path / "source"), address))
    assert one.run().outcome == "failed"
    assert not (one.folder / "x").exists()
