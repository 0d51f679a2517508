"""``python -m twistedipc.isolation``: what isolates builds here. `probe.Wanted` is read, and `Isolation` printed."""

from __future__ import annotations

import sys

import msgspec

from twistedipc.isolation.probe import Wanted, probe


def main() -> int:
    """Try it. Return the exit code."""
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    sys.stdout.buffer.write(msgspec.json.encode(probe(wanted)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
