"""What is shipped: the wheel has all that it needs, and twistd finds both plugins, from the wheel and the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import release
from tests.integration.platform import DEADLINE

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
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution of these sources."""
    return release.build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def unpacked(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel") / "site"
    with zipfile.ZipFile(built[0]) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_is_fit_to_be_published(built: tuple[Path, Path]) -> None:
    release.check_wheel(built[0])


def test_the_source_distribution_is_fit_to_be_published(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, sdist = built
    release.check_sdist(sdist)
    release.check_rebuilt(sdist, wheel, tmp_path)


@pytest.mark.long
def test_the_wheel_is_installed_and_runs(built: tuple[Path, Path], tmp_path: Path) -> None:
    release.check_installed(built[0], tmp_path)


def test_a_wheel_with_a_file_too_many_is_not_fit(built: tuple[Path, Path], tmp_path: Path) -> None:
    wheel = tmp_path / built[0].name
    shutil.copy(built[0], wheel)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("twisted/plugins/dropin.cache", "")
    with pytest.raises(release.NotFit, match=r"has what git doesn't have: twisted/plugins/dropin\.cache"):
        release.check_wheel(wheel)


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
