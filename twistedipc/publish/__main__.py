"""
The processes in which a runner has things packed and published::

    python -m twistedipc.publish pack FOLDER
    python -m twistedipc.publish deliver FOLDER TARGET [told]
    python -m twistedipc.publish compare FOLDER TARGET

``FOLDER`` is the attempt's. ``told``: the input is a socket by which the step is told more, and says what it does.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twistedipc.publish import compare, deliver, pack


def main(arguments: list[str]) -> int:
    """Run the step that ``arguments`` name. Return its exit code."""
    match arguments:
        case ["pack", folder]:
            return pack.main(Path(folder))
        case ["deliver", folder, target]:
            return deliver.main(Path(folder), target)
        case ["deliver", folder, target, "told"]:
            return deliver.main(Path(folder), target, told=True)
        case ["compare", folder, target]:
            return compare.main(Path(folder), target)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
