"""What an attacking script knows of the machine, and how it says that it got something. Beside it in the repository."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

known: Any = SimpleNamespace(**json.loads(Path(__file__).with_name("facts.json").read_text()))


def reached(what: object) -> None:
    """Say that the attack succeeded."""
    print("REACHED", what, flush=True)
