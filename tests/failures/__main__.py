"""``python -m tests.failures [NAME …]``: make the failures again, and keep what the tools printed."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec

from tests.failures.cases import CASES
from tests.failures.making import Made, NotMade, make, tidy

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "causes"


def main() -> int:
    """Run the command; its exit code is 1 if a case can't be made."""
    parser = argparse.ArgumentParser(prog="python -m tests.failures", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a case; all of them if none is named")
    parser.add_argument("--kits", metavar="FOLDER", help="where the kits are kept, to be used again")
    options = parser.parse_args()
    if unknown := set(options.names) - {case.name for case in CASES}:
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="twistedipc-failures-") as temporary:
        return _all(options.names, Path(options.kits or temporary).absolute(), Path(temporary))


def _all(names: list[str], kits: Path, folder: Path) -> int:
    listed = FOLDER / "made.json"
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = msgspec.json.decode(listed.read_bytes(), type=dict[str, Made]) if listed.exists() else {}
    wrong = 0
    for case in CASES:
        if names and case.name not in names:
            continue
        place = folder / case.name
        try:
            output, made[case.name] = make(case, kits, place)
        except NotMade as error:
            print(f"not made: {error}", flush=True)
            wrong += 1
            continue
        finally:
            tidy(place)
        (FOLDER / f"{case.name}.txt").write_text(output, "utf-8")
        print(f"{case.name}: exit {made[case.name].exit}, {len(output.splitlines())} lines", flush=True)
        ordered = {each.name: made[each.name] for each in CASES if each.name in made}
        listed.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=1) + b"\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
