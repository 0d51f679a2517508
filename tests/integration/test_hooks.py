"""From a host's message to a finished build, on real services: a push, and a stranger's pull request."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.hook_payloads import Message, github, github_pull, github_push
from tests.integration.platform import Platform, git

STEP = '{name = "make", run = "mkdir dist; echo KEY=$KEY > dist/index.html"}'
PLAN = {".twistedipc.toml": f'[build]\nsteps = [{STEP}]\ncaches = ["kept"]\n'}


def tell(platform: Platform, message: Message) -> Any:
    headers, body = message
    request = urllib.request.Request(f"{platform.url}/hooks/shop", method="POST", data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def test_pushes_and_strangers(tmp_path: Path) -> None:
    with Platform(tmp_path) as platform:
        repository = platform.repository(PLAN)
        platform.add_project("shop", repository)
        done = platform.command("project", "secret", "set", "shop", "KEY", text="s3cret-of-shop")
        assert done.returncode == 0, done.stderr
        secret = json.loads(platform.command("project", "hook", "shop", "--json").stdout)["secret"]
        before, head = "0" * 40, git(repository, "rev-parse", "HEAD")
        payload = github_push(before, head, f"refs/heads/{git(repository, 'branch', '--show-current')}")
        build = tell(platform, github("push", payload, "1", secret))["build"]
        assert tell(platform, github("push", payload, "1", secret))["build"] == build
        platform.succeed(build)
        assert platform.released("shop") == "KEY=s3cret-of-shop\n"

        # A stranger's commit, which no branch has, and a newer one in its place before it is allowed.
        git(repository, "checkout", "-q", "--detach")
        (repository / "x").write_text("1")
        git(repository, "add", "x")
        git(repository, "commit", "-q", "-m", "from a fork")
        strange = git(repository, "rev-parse", "HEAD")
        git(repository, "update-ref", "refs/pull/7/head", strange)
        waits = tell(platform, github("pull_request", github_pull(head=strange, fork=True), "2", secret))
        assert (waits["outcome"], waits["build"]) == ("waits", None)
        git(repository, "commit", "-q", "--allow-empty", "-m", "after the look")
        git(repository, "update-ref", "refs/pull/7/head", "HEAD")
        done = platform.command("hook", "allow", "shop", str(waits["message"]), "--json")
        assert done.returncode == 0, done.stderr
        theirs = platform.succeed(json.loads(done.stdout)["build"])
        assert (theirs["commit"], theirs["environment"]) == (strange, "preview")
        assert theirs["preview"] == "it is of a pull request from a fork"
        assert platform.released("shop") == "KEY=s3cret-of-shop\n"
        caches = tmp_path / "builder-data" / "caches"
        kept = {path.name for path in caches.iterdir()} if caches.exists() else set()
        assert len(kept) <= 1  # what production's build keeps, and nothing of the stranger's
        log = platform.log(theirs["id"])
        assert "From earlier builds" not in log
