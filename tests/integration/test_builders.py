"""Builders that are broken, beside one that isn't; and both services with every key of their configuration."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest
import trustme

from tests.integration.platform import BARE, Platform, Service, toml, wait_for
from tests.ports import free_port
from tests.storage_fixtures import new_ledger
from twistedipc.ipc import make_named_key, write_named_key
from twistedipc.taps.config import ApiserverConfig, BuilderConfig

SHORT = {
    ".twistedipc.toml": """
        [build]
        steps = [{name = "write", run = "mkdir -p dist && echo hello $GREETING > dist/index.html"}]
        output = "dist"
    """
}


def decline_everything(broken: Service) -> None:
    """Make the builder's disk take no folder of an attempt any more."""
    attempts = broken.config.parent / "broken-data" / "attempts"
    shutil.rmtree(attempts)
    attempts.write_text("")


def answer_nothing(broken: Service) -> None:
    """Make the builder hang."""
    os.kill(broken.pid, signal.SIGSTOP)


@pytest.mark.parametrize("breaks", [decline_everything, pytest.param(answer_nothing, marks=pytest.mark.long)])
def test_a_broken_builder_keeps_no_build_from_the_one_that_works(
    tmp_path: Path, breaks: Callable[[Service], None]
) -> None:
    """
    With three free slots the broken one was offered all builds, time and again, and the other was idle: two of six were
    still queued after 45 s, and nobody could see why. (One that doesn't answer is given up after 10 s: a long test.)
    """
    link = {"dial": ["unix:link.sock", "unix:broken.sock"]}
    with Platform(tmp_path, slots=1, apiserver_link=link, isolation=BARE) as platform:
        (tmp_path / "broken.toml").write_text(
            toml({"data": "broken-data", "name": "broken", "slots": 3, "link": {"listen": ["unix:broken.sock"]}})
        )
        broken = Service("buildipc", tmp_path / "broken.toml")
        broken.start()
        try:
            wait_for("both are linked", lambda: (platform.health() or {}).get("builders") == 2)
            breaks(broken)
            platform.add_project("short", platform.repository(SHORT))
            builds = [platform.build("short", publish=False) for _ in range(3)]

            def said() -> str:
                # The reason stands in the build only until another builder takes it: the log keeps it.
                found = re.search(r"builder broken (declined|didn't answer) .*", platform.apiserver.text())
                return found[0] if found else ""

            reason = wait_for("somebody sees who is at fault", said)
            wait_for(
                "all builds have ended",
                lambda: {platform.api("GET", f"/api/v1/builds/{build}")["state"] for build in builds} == {"succeeded"},
            )
            assert [platform.api("GET", f"/api/v1/builds/{build}")["attempt"] for build in builds] == [1] * 3
        finally:
            broken.kill()
        if breaks is decline_everything:
            assert "-1: the builder can't write the attempt down:" in reason
            assert "Not a directory" in reason
        else:
            assert reason.startswith("builder broken didn't answer the offer within 10 s: ")


def test_a_queued_build_says_why_it_waits(tmp_path: Path) -> None:
    """By the API and by the command."""
    with Platform(tmp_path, slots=1, isolation=BARE) as platform:
        slow = {".twistedipc.toml": '[build]\nsteps = ["until [ -e go ]; do sleep 0.1; done"]\n'}
        platform.add_project("slow", platform.repository(slow))
        first = platform.build("slow", publish=False)
        platform.wait(first, {"running"})
        second = platform.build("slow", publish=False)
        text = "the only slot of the only builder is taken; position 1 in the queue of slow"
        waiting = platform.api("GET", f"/api/v1/builds/{second}")["waiting"]
        assert waiting == {"code": "slots", "text": text, "position": 1, "until": None}
        assert text in platform.command("show", str(second)).stdout
        platform.builder.kill()
        wait_for(
            "it says that there is no builder",
            lambda: platform.api("GET", f"/api/v1/builds/{second}")["waiting"]["code"] == "no_builder",
        )
        away = wait_for("it says who is away", lambda: platform.api("GET", f"/api/v1/builds/{first}")["waiting"])
        assert away["code"] == "away"
        assert away["text"].startswith("builder builder has been away for ")
        assert away["until"] is not None
        platform.api("POST", f"/api/v1/builds/{second}/cancel")
        platform.api("POST", f"/api/v1/builds/{first}/cancel")
        platform.builder.start()
        assert platform.wait(first)["waiting"] is None


def missing_keys(kind: type[msgspec.Struct], table: dict[str, Any], place: str = "") -> list[str]:
    """The keys that a configuration may have and this table doesn't."""
    missing: list[str] = []
    for name, hint in get_type_hints(kind).items():
        if name not in table:
            missing.append(f"{place}{name}")
        elif isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            missing += missing_keys(hint, table[name], f"{place}{name}.")
    return missing


def test_a_build_with_every_key_of_both_configurations(tmp_path: Path) -> None:
    """A key that was documented, and tested as far as it was read, stopped every build of its builder."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    for name in ("apiserver", "builder"):
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))
        certificate.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.pem"))
    (tmp_path / "link.key").write_text("6b" * 32 + "\n")
    (tmp_path / "link.key").chmod(0o600)
    write_named_key(tmp_path / "builders-own.key", make_named_key("every-key", "builder"))
    for name in ("oidc.secret", "mail.secret"):
        (tmp_path / name).write_text("s3cret\n")
        (tmp_path / name).chmod(0o600)
    port = free_port()

    def tls(name: str) -> dict[str, str]:
        return {"certificate": f"{name}.pem", "private_key": f"{name}.key", "authority": "authority.pem"}

    platform = Platform(tmp_path)  # its own configuration is replaced
    apiserver: dict[str, Any] = {
        "data": "all/apiserver",
        "http": {
            "listen": f"tcp:{platform.port}:interface=127.0.0.1",
            "public_url": f"http://localhost:{platform.port}",
            "allowed_origins": ["https://console.example.org"],
            "local_repositories": True,
            "secure_cookies": True,
            "trusted_proxies": ["127.0.0.2"],
            "internal_repositories": ["git.example.org"],
            "allow_plain_http": True,
            "hosts": ["builds.example.org"],
        },
        "releases": {
            "listen": f"tcp:{platform.releases_port}:interface=127.0.0.1",
            "domain": "releases.example.org",
            "public_url": "https://{project}.releases.example.org",
            "assets_days": 3,
            "redirect_to_https": False,
            "acme_webroot": str(tmp_path),
        },
        "certificates": [{"chain": "apiserver.pem", "key": "apiserver.key"}],
        "domains": {"allowed": ["*.acme.example"]},
        "logs": {"archive": "files", "move": True, "share": 0.2},
        "stores": {
            "s3": {
                "bucket": "logs",
                "endpoint": f"http://127.0.0.1:{free_port()}",  # nobody's: no log was ever put there
                "region": "eu-1",
                "prefix": "team",
                "access_key": "key",
                "secret_key_file": "s3.secret",
            }
        },
        "retention": {
            "logs": "90 days",
            "artifacts": 30,
            "unpublished": "1 day",
            "previews": "60 days",
            "releases": 20,
            "builds": "2 years",
            "most_builds": 1000,
            "messages": "30 days",
            "caches": "2 weeks",
            "audit": "5 years",
            "newest": 5,
            "last_success": False,
        },
        "link": {
            "name": "all",
            "lost_after": 120.5,
            "listen": [f"tls:{port}:interface=127.0.0.1"],
            "dial": [f"unix:{tmp_path}/nobody.sock"],
            "key": "link.key",
            "first_builder": {"name": "every-key", "key": "builders-own.key"},
            "tls": tls("apiserver"),
        },
        "sign_in": {
            "oidc": {
                "issuer": f"http://127.0.0.1:{free_port()}",
                "client_id": "twistedipc",
                "client_secret_file": "oidc.secret",
                "name": "Example",
                "scopes": ["email"],
                "groups_claim": "teams",
                "groups": {"web": {"admin": True, "projects": {"short": "publisher"}}},
                "allow_new": True,
            }
        },
        "mail": {
            "server": "mail.example.org",
            "sender": "builds@example.org",
            "port": 587,
            "security": "starttls",
            "user": "builds",
            "password_file": "mail.secret",
        },
        "viewers": {"share": 0.25},
        "audit": {"file": f"{tmp_path}/audit.jsonl"},
        "cluster": {"bell": "", "name": "first", "shared": "common"},
        "database": {"url": f"sqlite:///{tmp_path}/elsewhere.sqlite"},
    }
    builder: dict[str, Any] = {
        "data": "all/builder",
        "name": "every-key",
        "slots": 3,
        "path": os.environ["PATH"],
        "apiserver_url": f"http://127.0.0.1:{platform.port}",
        "allow_plain_http": True,
        "link": {
            "listen": [f"unix:{tmp_path}/nobody-either.sock"],
            "dial": [f"tls:localhost:{port}"],
            "key": "builders-own.key",
            "tls": tls("builder"),
        },
        "environment": {"GREETING": "good day"},
        "limits": {
            "timeout": 60.5,
            "idle_timeout": 30.5,
            "grace": 1.5,
            "upload": 30.5,
            "reserve": "1 MiB",
            "mirrors": 30.5,
            "processes": 4000,
            "memory": "4 GiB",
            "disk": "10 GiB",
            "open_files": 4096,
            "cpus": 1.5,
        },
        "isolation": {"kind": "auto", "readable": [str(tmp_path)], "allow": ["packages.example.org"]},
        "caches": {"keep": True, "project": "1 MiB", "total": "2 MiB", "days": 1.5},
        "toolchains": {
            "registry": "https://npm.example.org/",
            "node": ">=18",
            "forbid": ["pnpm@<9"],
            "offline": True,
            "publint": False,
        },
    }
    (tmp_path / "s3.secret").write_text("secret")
    (tmp_path / "apiserver.toml").write_text(toml(apiserver))
    (tmp_path / "builder.toml").write_text(toml(builder))
    assert missing_keys(ApiserverConfig, apiserver) == missing_keys(BuilderConfig, builder) == []
    new_ledger(tmp_path).rename(tmp_path / "elsewhere.sqlite")  # as `Platform` makes its own
    with platform:
        platform.add_project("short", platform.repository(SHORT))
        found = platform.succeed(platform.build("short"))
        assert found["attempts"][0]["builder"] == "every-key"
        assert platform.health() is not None
    assert not (tmp_path / "all" / "apiserver" / "ledger.sqlite").exists()
    (rule,) = (tmp_path / "all" / "builder" / "caches").glob("short-*/kept.json")
    assert msgspec.json.decode(rule.read_bytes()) == {"days": 14}


@pytest.mark.long
def test_an_upload_that_reaches_no_server_is_reported_and_ends_the_build(tmp_path: Path) -> None:
    """Such a build stayed `publishing` for ever, with an empty reason."""
    platform = Platform(tmp_path, limits={"upload": 6.0}, isolation=BARE)
    file = tmp_path / "builder.toml"
    site = f"http://127.0.0.1:{free_port()}"
    file.write_text(f'apiserver_url = "{site}"\n{file.read_text()}')
    with platform:
        platform.add_project("short", platform.repository(SHORT))
        build = platform.build("short")
        waiting = wait_for(
            "it says that nobody is there",
            lambda: (platform.api("GET", f"/api/v1/builds/{build}")["waiting"] or {}).get("code") == "upload",
        )
        assert waiting
        found = platform.wait(build)
        assert found["state"] == "failed"
        assert found["reason"].startswith(
            f"what was built can't be stored: {site} can't be reached: the connection was refused. The address"
        ), found["reason"]
