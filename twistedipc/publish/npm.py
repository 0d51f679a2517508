"""
The publish step by the name under which a runner of version 0.1 starts it: ``python -m twistedipc.publish.npm FOLDER``.
Such a runner may live through an upgrade. Nothing imports this module.
"""

from __future__ import annotations

import sys
from pathlib import Path

from twistedipc.publish.deliver import main
from twistedipc.publish.targets.npm.target import Npm

if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Npm.name))
