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


def main(arguments: list[str]) -> int:
    """Run the step that ``arguments`` name. Return its exit code."""
    # Each is imported where it is run: a step begins once all that it imports is there, and a build waits for it.
    match arguments:
        case ["pack", folder]:
            from twistedipc.publish import pack

            return pack.main(Path(folder))
        case ["deliver", folder, target]:
            from twistedipc.publish import deliver

            return deliver.main(Path(folder), target)
        case ["deliver", folder, target, "told"]:
            from twistedipc.publish import deliver

            return deliver.main(Path(folder), target, told=True)
        case ["compare", folder, target]:
            from twistedipc.publish import compare

            return compare.main(Path(folder), target)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
