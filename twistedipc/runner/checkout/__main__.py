"""``python -m twistedipc.runner.checkout FOLDER``: the checkout step of the attempt in this folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from twistedipc.attempts.folder import out_of, step_failed
from twistedipc.disk.files import write_file
from twistedipc.runner.checkout.git import CheckoutFailed
from twistedipc.runner.checkout.working_copy import check_out


def main(folder: Path) -> int:
    """Run the step. Return its exit code."""
    try:
        found = check_out(folder, now=lambda: time.time_ns() // 1_000_000)
        write_file(out_of(folder) / "checkout.json", found)
    except (CheckoutFailed, OSError, msgspec.DecodeError) as error:
        return step_failed(out_of(folder), error)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
