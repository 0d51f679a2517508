"""
The step that compares stored packages with what is published, started by `runner.from_store` (see ``__main__``). It
has the target's secrets in its environment, as the step that publishes has.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from twistedipc.attempts.folder import out_of, read_packages, step_failed
from twistedipc.builds.attempt import Spec
from twistedipc.builds.names import BadValue
from twistedipc.disk.files import read_file, write_file
from twistedipc.publish.compared import Compared
from twistedipc.publish.record import MemoryRecord
from twistedipc.publish.targets.registry import TARGETS, find, offered
from twistedipc.publish.targets.target import CantDeliver, CantPrepare, Delivery

#: The file in which the step leaves what it has found.
COMPARED = "compared.json"


def main(folder: Path, name: str) -> int:
    """Run the step. Return its exit code."""
    out = out_of(folder)
    try:
        spec = read_file(folder / "spec.json", Spec)
        settings = None if spec is None else find(offered(spec.targets, spec.publish), name)
        if settings is None:
            raise CantDeliver(f"the folder has no spec.json with a target {name}")
        target = TARGETS.of(settings)
        packages = read_packages(folder, name)
        needed = target.secrets_for(settings, [package.name for package in packages])
        secrets = {secret.name: os.environ.get(secret.variable, "") for secret in needed}
        record = MemoryRecord(len(packages))
        delivery = Delivery(folder=folder, out=out, packages=packages, secrets=secrets, record=record)
        found: list[Compared] = []
        for each in target.compare(settings, delivery):
            found.append(each)
            write_file(out / COMPARED, found)  # what is known when the time is over
    except (CantDeliver, CantPrepare, OSError, BadValue, msgspec.DecodeError) as error:
        return step_failed(out, error)
    return 0
