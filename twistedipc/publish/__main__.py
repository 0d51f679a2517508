"""
The processes in which a runner has things packed and published::

    python -m twistedipc.publish pack FOLDER [MODULE …]
    python -m twistedipc.publish deliver TARGET FOLDER [MODULE …]

``FOLDER`` is the attempt's. Each ``MODULE`` is imported first: they define the attempt's targets, for the registry.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from twistedipc.publish import deliver, pack


def main(arguments: list[str]) -> int:
    """Run the step that ``arguments`` say: its exit code."""
    match arguments:
        case ["pack", folder, *modules]:
            _import(modules)
            return pack.main(Path(folder))
        case ["deliver", target, folder, *modules]:
            _import(modules)
            return deliver.main(Path(folder), target)
        case _:
            sys.exit(__doc__)


def _import(modules: list[str]) -> None:
    for module in modules:
        import_module(module)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
