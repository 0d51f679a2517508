"""
Targets of one's own, each added in one file, through the real services, runner and command: no other file knows of
them.

The files are installed beside the platform, as a package of somebody's would be: every Python of that installation has
them in the registry.
"""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import Platform, Problem, wait_for

KEY = "f0lder-Key-Of-The-Shop"
SITE = """[build]
steps = [{name = "make", run = "mkdir dist; echo hello >dist/index.html"}]
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an installation with the targets in it."""
    folder = tmp_path_factory.mktemp("installation")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for target in ("folder_target", "copies_target"):
        shutil.copy(Path(__file__).with_name(f"{target}.py"), packages)
    here = [*site.getsitepackages(), str(Path(__file__).parents[2])]
    (packages / "a_platform.pth").write_text("\n".join(here) + "\n")
    (packages / "b_target.pth").write_text("import folder_target, copies_target\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def platform(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    platform = Platform(tmp_path_factory.mktemp("platform"))
    for service in (platform.apiserver, platform.builder):
        service.program = [str(python), "-c", "from twisted.scripts.twistd import run; run()"]
    with platform:
        yield platform


def command(python: Path, platform: Platform, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command of that installation."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(platform.folder), "LANG": "C.UTF-8"}
    return subprocess.run(
        [str(python), "-m", "twistedipc.cli", *arguments],
        env={**environment, "TWISTEDIPC_URL": platform.url, "TWISTEDIPC_TOKEN": platform.token},
        cwd=platform.folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.long
def test_it_is_published_to(python: Path, platform: Platform, tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    repository = platform.repository({".twistedipc.toml": SITE})
    options = ["--no-static", "--folder", "--folder-path", str(copies), "--folder-keep", "3"]
    added = command(python, platform, "project", "add", "shop", str(repository), *options)
    assert added.returncode == 0, added.stderr
    project: dict[str, Any] = platform.api("GET", "/api/v1/projects/shop")
    assert project["targets"] == [{"type": "folder", "path": str(copies), "keep": 3}]
    assert project["publish"] == {}
    assert project["addresses"] == {"folder": copies.as_uri()}
    shown = command(python, platform, "project", "show", "shop").stdout
    assert "copy in a folder" in shown
    assert copies.as_uri() in shown

    # Without its secret there is no permit.
    refused = platform.wait(platform.build("shop"))
    assert refused["state"] == "failed"
    how = "`twistedipc project secret set shop folder_key` sets it"
    assert f"project shop has no folder_key: {how}" in refused["reason"]
    assert [step["name"] for step in refused["attempts"][0]["steps"]] == ["checkout", "make", "pack"]

    set_ = command(python, platform, "project", "secret", "shop", "folder_key", given=KEY)
    assert set_.returncode == 0, set_.stderr
    for status in ("published", "already-published"):
        built = platform.wait(platform.build("shop"))
        assert built["state"] == "succeeded", built["reason"]
        (attempt,) = built["attempts"]
        assert [step["name"] for step in attempt["steps"]] == ["checkout", "make", "pack", "publish"]
        (published,) = attempt["published"]
        assert (published["target"], published["name"], published["status"]) == ("folder", "shop", status)
        assert published["registry"] == str(copies)
        assert (copies / published["version"] / "index.html").read_text() == "hello\n"
        assert (copies / f"{published['version']}.seal").stat().st_size == 32
        assert KEY not in platform.log(built["id"])
    found = subprocess.run(["grep", "-rlF", KEY, str(platform.folder)], capture_output=True, check=False)
    assert found.stdout == b"", "the secret is nowhere on disk"

    # The secret is for this folder: for another it is void.
    changed = command(python, platform, "project", "set", "shop", "--folder-path", str(tmp_path / "other"))
    assert changed.returncode == 0, changed.stderr
    assert f"the folder_key was for {copies}" in changed.stderr
    assert platform.api("GET", "/api/v1/projects/shop")["secrets"] == []
    # The older form of a request leaves it alone.
    platform.api("PATCH", "/api/v1/projects/shop", {"publish": {"static": True}})
    project = platform.api("GET", "/api/v1/projects/shop")
    assert [target["type"] for target in project["targets"]] == ["static", "folder"]

    # A command without this target shows it, and leaves it alone.
    assert "folder (a target that isn't known here)" in platform.command("project", "show", "shop").stdout
    changed = platform.command("project", "set", "shop", "--npm")
    assert changed.returncode == 0, changed.stderr
    now = platform.api("GET", "/api/v1/projects/shop")["targets"]
    assert {each["type"] for each in now} == {"static", "npm", "folder"}
    assert {"type": "folder", "path": str(tmp_path / "other"), "keep": 3} in now


@pytest.mark.long
@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        ([{"type": "folder", "path": "relative"}], "begins with /"),
        ([{"type": "folder"}], "path"),
        ([{"type": "folder", "path": "/a", "paht": "/b"}], "folder has no 'paht'"),
        ([{"type": "folder", "path": "/a"}, {"type": "folder", "path": "/b"}], "folder is there twice"),
        ([{"type": "s3"}], "'s3'"),
    ],
)
def test_its_settings_are_checked(platform: Platform, targets: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(Problem, match="422") as raised:
        platform.add_project("wrong", Path("/nowhere"), targets=targets)
    assert problem in json.loads(str(raised.value).partition(": ")[2])["detail"]


@pytest.mark.long
def test_the_document_has_it(python: Path, platform: Platform) -> None:
    document = platform.api("GET", "/api/v1/openapi.json")
    schemas = document["components"]["schemas"]
    assert schemas["FolderSettings"]["required"] == ["type", "path"]
    assert schemas["FolderSettings"]["additionalProperties"] is False
    listed = json.dumps(schemas["NewProject"]["properties"]["targets"])
    assert "FolderSettings" in listed
    (folder,) = [each for each in platform.api("GET", "/api/v1/targets")["targets"] if each["name"] == "folder"]
    fields = [(each["name"], each["kind"], each["required"]) for each in folder["fields"]]
    assert fields == [("path", "text", True), ("keep", "number", False)]
    assert "NpmSettings" in listed
    assert "--folder-path PATH" in command(python, platform, "project", "set", "--help").stdout


@pytest.mark.long
def test_one_that_keeps_releases_rolls_back(python: Path, platform: Platform) -> None:
    """Beside the static release: each of both has its own live one."""
    repository = platform.repository({".twistedipc.toml": SITE})
    options = ["--static", "--copies", "--copies-base", "https://copies.example"]
    added = command(python, platform, "project", "add", "both", str(repository), *options)
    assert added.returncode == 0, added.stderr
    kept = platform.folder / "apiserver-data" / "releases-copies" / "both"

    def live() -> dict[str, int]:
        listed = platform.api("GET", "/api/v1/projects/both/releases")
        assert listed["addresses"]["copies"] == "https://copies.example/both"
        found = {each["target"]: each["id"] for each in listed["releases"] if each["state"] == "live"}
        assert found["copies"] == int((kept / "LIVE").read_text())
        return found

    made: list[dict[str, int]] = []
    for _ in range(2):
        built = platform.wait(platform.build("both"))
        assert built["state"] == "succeeded", built["reason"]
        made.append(live())
    assert made[0].keys() == {"static", "copies"}
    assert not made[0].items() & made[1].items()

    unclear = command(python, platform, "rollback", "both")
    assert unclear.returncode == 2
    assert "say --target, one of copies, static" in unclear.stderr
    back = command(python, platform, "rollback", "both", "--target", "copies")
    assert back.returncode == 0, back.stderr
    assert f"release {made[0]['copies']} of both is live at https://copies.example/both" in back.stderr
    assert live() == {"static": made[1]["static"], "copies": made[0]["copies"]}

    # What comes after the rollback waits, and says so, over a restart; the link on disk follows the ledger.
    waits = platform.wait(platform.build("both"))
    assert "it waits:" in waits["reason"]
    platform.apiserver.stop()
    (kept / "LIVE").unlink()
    platform.apiserver.start()
    wait_for("the apiserver answers", platform.health)
    assert live() == {"static": made[1]["static"], "copies": made[0]["copies"]}
    resumed = command(python, platform, "release", "resume", "both")
    assert resumed.returncode == 0, resumed.stderr
    now = live()
    assert not now.items() & (made[0].items() | made[1].items())
    table = command(python, platform, "releases", "both").stdout
    assert table.count("copies") == table.count("static") == 3

    platform.api("DELETE", "/api/v1/projects/both")
    assert not kept.exists()


def test_each_is_one_file() -> None:
    """Nothing else of the platform knows its name."""
    package = str(Path(sys.modules["twistedipc"].__file__ or "").parent)
    names = "folder_key|FolderSettings|CopiesSettings|copies_target"
    known = subprocess.run(["grep", "-rlE", names, package], capture_output=True, check=False)
    assert known.stdout == b""
