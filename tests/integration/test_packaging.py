"""What is shipped: the wheel has all that it needs, and twistd finds both plugins, from the wheel and the sources."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.platform import DEADLINE

ROOT = Path(__file__).parents[2]
TWISTD_HELP = "from twisted.scripts.twistd import run; import sys; sys.argv = ['twistd', '--help']; run()"


def run(code: str, folder: Path, **environment: str) -> str:
    """Run a bit of Python elsewhere than in the sources; its output."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of these sources, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=DEADLINE,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_twistd_lists_both_plugins_as_installed_here(tmp_path: Path) -> None:
    """An editable install, as `make` makes it."""
    text = run(TWISTD_HELP, tmp_path)
    assert "apiserver" in text
    assert "buildipc" in text


def test_twistd_lists_both_plugins_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    """Imported from the wheel, not from the sources; and each says how it is used."""
    where = run("import twistedipc; print(twistedipc.__file__)", tmp_path, PYTHONPATH=str(unpacked))
    assert where.startswith(str(unpacked))
    text = run(TWISTD_HELP, tmp_path, PYTHONPATH=str(unpacked))
    assert "apiserver" in text
    assert "buildipc" in text
    for plugin in ("apiserver", "buildipc"):
        help_text = run(TWISTD_HELP.replace("'--help'", f"'{plugin}', '--help'"), tmp_path, PYTHONPATH=str(unpacked))
        assert "--config=" in help_text


def test_the_wheel_has_what_is_not_python(unpacked: Path) -> None:
    """The page, the migrations, the marker of types; and no cached list of plugins."""
    for name in (
        "twistedipc/py.typed",
        "twistedipc/web/page/static/index.html",
        "twistedipc/web/page/static/page.js",
        "twisted/plugins/twistedipc_plugins.py",
    ):
        assert (unpacked / name).is_file(), name
    assert list((unpacked / "twistedipc/storage/migrations").rglob("*.py"))
    (licence,) = unpacked.glob("twistedipc-*.dist-info/licenses/LICENSE")
    assert licence.read_text() == (ROOT / "LICENSE").read_text()
    (wheel,) = unpacked.parent.glob("*.whl")
    # twistd itself writes one beside the plugins, when it is run.
    assert not any("dropin.cache" in name for name in zipfile.ZipFile(wheel).namelist())
    assert not (unpacked / "twisted/__init__.py").exists()
    assert not (unpacked / "twisted/plugins/__init__.py").exists()


@pytest.mark.parametrize("plugin", ["apiserver", "buildipc"])
def test_a_configuration_that_is_wrong_is_a_sentence(plugin: str, tmp_path: Path) -> None:
    """No traceback: the file, the key, what is expected."""
    config = tmp_path / "wrong.toml"
    config.write_text('data = "x"\n[link]\nlisten = 5\n')
    code = TWISTD_HELP.replace("'--help'", f"'-n', '--pidfile=', '{plugin}', '-c', '{config}'")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert done.returncode != 0
    assert "link.listen: expected a list of strings" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
