"""The library's first names are at the top of the package. Twisted is imported only when one is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import twistedipc
from twistedipc import ipc


@pytest.mark.parametrize("name", twistedipc.__all__)
def test_a_name_is_the_librarys(name: str) -> None:
    assert getattr(twistedipc, name) is getattr(ipc, name)


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'twistedipc' has no attribute 'dail'"):
        _ = twistedipc.dail  # type: ignore[attr-defined, unused-ignore]


def test_the_package_alone_imports_no_twisted() -> None:
    """Each runner imports it, and is to start fast."""
    program = "import sys, twistedipc; print('twisted' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
