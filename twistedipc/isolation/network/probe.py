"""
Which engine works on this machine: it is tried, not guessed. Used by ``isolation.probe``, in a process of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import NamedTuple

from twistedipc.builds.isolation import Kind
from twistedipc.isolation.network.attempt import Allowed, AttemptNetwork, Joined, NetworkFailed
from twistedipc.isolation.network.engines import Engine

_WHERE = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Found(NamedTuple):
    """What connects the steps of builds."""

    engine: Engine
    program: str = ""
    said: str = ""  # what else was tried, and why it doesn't work; "": nothing


def find_engine(kind: Kind, runs: Callable[[Joined], str]) -> Found | str:
    """
    Return what connects steps here; if nothing does, why.

    :param kind: what isolates them
    :param runs: runs a program as a step in a network; returns why it fails, or ""
    """
    failures: list[str] = []
    for engine, program in _candidates(kind):
        network = AttemptNetwork(engine, program, [])
        try:
            why = runs(network.join("trial", Allowed(open=True)))
        except NetworkFailed as error:
            why = str(error)
        finally:
            network.close()
        if not why:
            return Found(engine, program, "; ".join(failures))
        failures.append(f"{engine}: {why}")
    return "; ".join(failures)


def _candidates(kind: Kind) -> Iterator[tuple[Engine, str]]:
    if kind == "landlock":
        yield "loopback", ""
        return
    # As root, pasta changes to a user who may not join the namespace.
    engines: list[Engine] = ["pasta", "slirp4netns"] if os.geteuid() else ["slirp4netns"]
    for engine in engines:
        program = shutil.which(engine, path=_WHERE)
        if program is not None:
            yield engine, program
    yield "gate", ""
