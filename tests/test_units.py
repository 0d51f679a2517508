"""
The units in docs/operating.md: what `systemd-analyze` says of them, and what must not be in them, or must be, for
sandboxes. (That they let sandboxes be made was seen by a systemd, with a build whose package the apiserver published.)
"""

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
    "ProtectHostname",
    "RestrictAddressFamilies",
    "ProtectControlGroups",
    "PrivateDevices",
    "PrivateUsers",
)


#: The calls by which Landlock locks in an apiserver's process that publishes, beside those of `@system-service`.
FOR_LANDLOCK = {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self", "seccomp", "capset"}

APISERVER = "twistedipc-apiserver.service"
DROP_IN = f"{APISERVER}.d/bubblewrap.conf"


def unit(name: str) -> str:
    (found,) = re.findall(rf"```ini\n(# /etc/systemd/system/{re.escape(name)}\n.*?)```", DOCS.read_text(), re.DOTALL)
    return str(found)


def values(text: str, name: str) -> list[str]:
    """What a setting is assigned, one after the other; an empty value takes back what was before."""
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze isn't installed")
@pytest.mark.parametrize("names", [(APISERVER,), (APISERVER, DROP_IN)], ids=["alone", "for bubblewrap"])
def test_the_apiservers_unit_is_closed(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(unit(name))
    asked = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST}", "--no-pager"]
    done = subprocess.run([*asked, tmp_path / APISERVER], capture_output=True, text=True, timeout=180)
    if "Unknown" in done.stderr or "unrecognized" in done.stderr:
        pytest.skip("this systemd-analyze can't look at a file offline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


def test_the_process_that_publishes_can_be_locked_in() -> None:
    """By Landlock with either, and by namespaces with the second one, which takes back what is against them."""
    closed, more = unit(APISERVER), unit(DROP_IN)
    assert set(values(closed, "SystemCallFilter")[-1].split()) == FOR_LANDLOCK
    none, *calls = values(more, "SystemCallFilter")
    assert none == ""
    allowed = set(" ".join(calls).split())
    assert allowed >= FOR_LANDLOCK | {"@system-service", "@mount", "sethostname"}
    assert values(more, "RestrictNamespaces") == ["", "user mnt pid net ipc uts cgroup"]
    assert {"AF_NETLINK", "AF_PACKET"} <= set(values(more, "RestrictAddressFamilies")[0].split())
    for name in ("ProtectProc", "ProcSubset", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectHostname"):
        assert values(closed, name) not in ([], values(more, name)), name
        assert values(more, name) in (["no"], ["default"], ["all"]), name


def test_both_units_have_what_both_can_have() -> None:
    for name in ("twistedipc-apiserver", "twistedipc-builder"):
        lines = unit(f"{name}.service").splitlines()
        for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "CapabilityBoundingSet="):
            assert line in lines, name
        assert any(line.startswith("LimitNOFILE=") for line in lines), name


def test_the_builders_unit_lets_sandboxes_be_made() -> None:
    builder = unit("twistedipc-builder.service").splitlines()
    assert "Delegate=yes" in builder
    assert "KillMode=process" in builder
    assert [line for line in builder if line.split("=")[0] in AGAINST_SANDBOXES] == []
