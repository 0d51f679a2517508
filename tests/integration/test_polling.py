"""
From a push to a build without a hook, on real services and by ssh: polling, also where a builder is
killed in the middle of a look; and the end of a branch's preview.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import urllib.error
from pathlib import Path
from typing import Any

from tests.git_servers import SshServer, needs_sshd
from tests.integration.platform import Platform, git, processes, wait_for

SITE = {".twistedipc.toml": '[build]\nsteps = ["mkdir -p dist && git log -1 --format=%s > dist/index.html"]\n'}
POLL = "/api/v1/projects/shop/poll"


def look(platform: Platform) -> None:
    """Have the repository looked at, as if the pause between two looks (`polls.PAUSE`) were over."""
    path = platform.folder / "apiserver-data" / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as ledger, ledger:
        ledger.execute("UPDATE polls SET tried = NULL")
    platform.api("POST", f"{POLL}/look")


def looked(platform: Platform) -> dict[str, Any]:
    """Have the repository looked at, and wait until that is done."""
    before = platform.api("GET", POLL)
    look(platform)

    def done() -> dict[str, Any] | None:
        found: dict[str, Any] = platform.api("GET", POLL)
        over = (found["looked"], found["failures"]) != (before["looked"], before["failures"])
        return found if over else None

    found: dict[str, Any] = wait_for("the repository is looked at", done, 120)
    return found


def messages(platform: Platform) -> list[dict[str, Any]]:
    """What has moved, the newest first."""
    found: list[dict[str, Any]] = platform.api("GET", "/api/v1/projects/shop/hook/messages")["messages"]
    return found


def previewed(platform: Platform) -> str:
    """The preview of the branch fix; "" if it is no more."""
    with contextlib.suppress(urllib.error.HTTPError):
        return platform.released("fix--shop")
    return ""


@needs_sshd
def test_pushes_build_and_a_branch_that_is_gone_has_no_preview(tmp_path: Path) -> None:
    with Platform(tmp_path) as platform:
        repository = platform.repository(SITE)
        server = SshServer(tmp_path / "sshd")
        server.start()
        try:
            platform.api("POST", "/api/v1/projects", {"name": "shop", "repository": server.address(repository)})
            public = platform.api("POST", "/api/v1/projects/shop/deploy-key")["public_key"]
            done = platform.command("project", "poll", "shop", "--every", "60", "--json")
            assert json.loads(done.stdout)["on"], done.stderr
            assert "doesn't accept the project's deploy key" in looked(platform)["reason"]
            server.authorized.write_text(public + "\n")
            found = looked(platform)
            assert (found["reason"], found["refs"], found["builder"]) == ("", 1, "builder")
            assert platform.api("GET", "/api/v1/projects/shop")["access"]["host_keys"]
            assert messages(platform) == []

            first = platform.commit(repository, {"a": "1"}, "first")
            looked(platform)
            (told,) = messages(platform)
            assert (told["host"], told["commit"], told["title"]) == ("polling", first, "first")
            assert platform.succeed(told["build"])["origin"]["kind"] == "poll"
            assert platform.released("shop") == "first\n"

            # The builder is killed while it waits for the host: what asked there ends, and nothing is lost or doubled.
            second = platform.commit(repository, {"a": "1b"}, "second")
            asking = str(tmp_path / "builder-data" / "remotes").encode()
            with server.hanging():
                look(platform)
                wait_for("the host is asked", lambda: processes(asking))
                platform.builder.kill()
                wait_for("nothing asks it any more", lambda: not processes(asking))
            platform.builder.start()
            platform.linked()
            told = wait_for("the push is seen", lambda: looked(platform)["reason"] == "" and messages(platform)[:-1])
            assert [(each["commit"], each["outcome"]) for each in told] == [(second, "built")]
            platform.succeed(told[0]["build"])
            assert platform.released("shop") == "second\n"

            platform.commit(repository, {"a": "2"}, "Release\n\n[skip ci]")
            git(repository, "checkout", "-q", "-b", "fix")
            platform.commit(repository, {"a": "3"}, "fixed")
            platform.apiserver.kill()
            platform.apiserver.start()
            platform.linked()
            looked(platform)
            release, fix, *_before = messages(platform)
            assert (release["outcome"], release["reason"]) == ("ignored", "the commit's message says so: [skip ci]")
            platform.succeed(fix["build"])
            assert previewed(platform) == "fixed\n"

            git(repository, "checkout", "-q", "main")
            git(repository, "branch", "-D", "fix")
            looked(platform)
            assert messages(platform)[0]["outcome"] == "gone"
            assert previewed(platform) == ""
            assert len(messages(platform)) == 5
            assert "every 60 minutes" in platform.command("project", "show", "shop").stdout
        finally:
            server.stop()
