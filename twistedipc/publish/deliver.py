"""
The publish step, started by the runner once publishing was permitted (see ``__main__``); its output is the log. It is
the only step of an attempt that has a target's secrets, in its environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from twistedipc.attempts.folder import out_of, package_file, read_packages, step_failed
from twistedipc.builds.attempt import Published, Spec
from twistedipc.builds.names import BadValue
from twistedipc.disk.files import read_file, write_file
from twistedipc.publish.targets.registry import TARGETS, find, offered
from twistedipc.publish.targets.target import CantDeliver, CantPrepare, Delivery


def run(folder: Path, name: str) -> Iterator[Published]:
    """
    Deliver what the target of this name has prepared, and yield what became of each package. Raises `CantDeliver`,
    `CantPrepare`, or OSError.
    """
    spec = read_file(folder / "spec.json", Spec)
    packages = read_packages(folder, name)
    if spec is None or not packages:
        raise CantDeliver(f"the attempt's folder has no spec.json or no {package_file(name)}")
    settings = find(offered(spec.targets, spec.publish), name)
    if settings is None:
        raise CantDeliver(f"the attempt isn't to be published to {name}")
    target = TARGETS.of(settings)
    secrets = {secret.name: os.environ.get(secret.variable, "") for secret in target.secrets}
    for secret in target.secrets:
        if not secrets[secret.name]:
            raise CantDeliver(f"the project has no {secret.name} ({secret.help})")
    delivery = Delivery(folder=folder, out=out_of(folder), packages=packages, secrets=secrets)
    for published in target.deliver(settings, delivery):
        yield msgspec.structs.replace(published, target=name)


def main(folder: Path, name: str) -> int:
    """Run the step. Return its exit code. What was published before it failed is written down."""
    done: list[Published] = []
    try:
        for published in run(folder, name):
            done.append(published)
            write_file(out_of(folder) / "published.json", done)
            print(f"{published.name} {published.version}: {published.status}", flush=True)
    except (CantDeliver, CantPrepare, OSError, BadValue, msgspec.DecodeError) as error:
        return step_failed(out_of(folder), error)
    return 0
