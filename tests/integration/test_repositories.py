"""
Private repositories on real services: a token by https, a deploy key by ssh, the host's key, and the branch that HEAD
stands for.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.git_servers import HttpServer, SshServer, needs_sshd
from tests.integration.platform import Platform, git

SITE = {".twistedipc.toml": '[build]\nsteps = ["mkdir -p dist && git log -1 --format=%s > dist/index.html"]\n'}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("repositories")) as platform:
        yield platform


def on_disk(platform: Platform, value: str) -> list[str]:
    """The files of both services that have a value in them."""
    found = subprocess.run(["grep", "-rlF", "-e", value, str(platform.folder)], capture_output=True, check=False)
    return found.stdout.decode().splitlines()


@pytest.mark.long
def test_a_token_and_the_branch_of_head(platform: Platform) -> None:
    repository = platform.repository(SITE)
    git(repository, "branch", "-m", "main", "trunk")
    server = HttpServer(repository.parent)
    try:
        platform.api(
            "POST",
            "/api/v1/projects",
            {"name": "web", "repository": f"{server.url}/{repository.name}", "on_lost": "lost"},
        )
        refused = platform.wait(platform.build("web"), {"failed"})
        assert "twistedipc project secret web git_token" in refused["reason"]
        platform.api("PUT", "/api/v1/projects/web/secrets/git_token", {"value": server.token})
        platform.succeed(platform.build("web"))
        assert platform.released("web") == "A change\n"
        project = platform.api("GET", "/api/v1/projects/web")
        assert (project["default_ref"], project["head"]) == ("HEAD", "trunk")
        platform.commit(repository, {"x": "y"}, "second")
        platform.succeed(platform.build("web", ref="trunk"))  # what HEAD stands for, by its own name
        assert platform.released("web") == "second\n"
        git(repository, "branch", "fix")
        found = platform.succeed(platform.build("web", ref="fix"))
        assert "it is a preview: fix isn't the protected ref (HEAD)" in found["reason"]
        assert on_disk(platform, server.token) == []
    finally:
        server.stop()


@pytest.mark.long
@needs_sshd
def test_a_deploy_key_and_another_host_key(platform: Platform) -> None:
    repository = platform.repository(SITE)
    server = SshServer(platform.folder / "sshd")
    server.start()
    try:
        platform.api("POST", "/api/v1/projects", {"name": "keyed", "repository": server.address(repository)})
        made = platform.api("POST", "/api/v1/projects/keyed/deploy-key")
        refused = platform.wait(platform.build("keyed"), {"failed"})
        assert "doesn't accept the project's deploy key" in refused["reason"]
        server.authorized.write_text(made["public_key"] + "\n")
        platform.succeed(platform.build("keyed"))
        (pinned,) = platform.api("GET", "/api/v1/projects/keyed")["access"]["host_keys"]
        assert pinned["line"].endswith(server.host_key)
        server.stop()
        server.new_host_key()
        server.start()
        refused = platform.wait(platform.build("keyed"), {"failed"})
        assert f"another host key than the one that is pinned ({pinned['fingerprint']})" in refused["reason"]
        platform.api("DELETE", "/api/v1/projects/keyed/known-hosts")
        platform.succeed(platform.build("keyed"))
    finally:
        server.stop()
