"""The units in docs/operating.md: what `systemd-analyze` says of them, and what the builder's must not have."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs/operating.md"

#: Ten times the most that the apiserver's unit may be exposed, as `--threshold` has it.
MOST = 40

#: What would keep an ordinary user's sandboxes from being made in the builder's unit.
AGAINST_SANDBOXES = (
    "RestrictNamespaces",
    "SystemCallFilter",
    "ProtectProc",
    "ProcSubset",
    "ProtectKernelTunables",
    "ProtectKernelLogs",
    "ProtectControlGroups",
    "PrivateDevices",
    "PrivateUsers",
)


def unit(name: str) -> str:
    (found,) = re.findall(rf"```ini\n(# /etc/systemd/system/{name}\.service\n.*?)```", DOCS.read_text(), re.DOTALL)
    return str(found)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze isn't installed")
def test_the_apiservers_unit_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "twistedipc-apiserver.service"
    path.write_text(unit("twistedipc-apiserver"))
    asked = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST}", "--no-pager", str(path)]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    if "Unknown" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip("this systemd-analyze can't look at a file offline")
    assert done.returncode == 0, done.stdout + done.stderr


def test_both_units_have_what_both_can_have() -> None:
    for name in ("twistedipc-apiserver", "twistedipc-builder"):
        lines = unit(name).splitlines()
        for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "CapabilityBoundingSet="):
            assert line in lines, name
        assert any(line.startswith("LimitNOFILE=") for line in lines), name


def test_the_builders_unit_lets_sandboxes_be_made() -> None:
    builder = unit("twistedipc-builder").splitlines()
    assert "Delegate=yes" in builder
    assert "KillMode=process" in builder
    assert [line for line in builder if line.split("=")[0] in AGAINST_SANDBOXES] == []
