"""
Npm registries for tests.

``state`` (what a registry has, and every request that changed something), ``faults`` (how it misbehaves, by a seed),
``server`` (both by HTTP, in this process), ``verdaccio`` (a real one, on Node).
"""

from __future__ import annotations

from tests.registry.faults import Fault, Faults
from tests.registry.server import Registry, running
from tests.registry.state import OTP, TOKEN, Account, Change, Refused

__all__ = ["OTP", "TOKEN", "Account", "Change", "Fault", "Faults", "Refused", "Registry", "running"]
