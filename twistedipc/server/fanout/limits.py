"""How much memory the logs of a server may take. Used by ``store`` and ``live``; tests give smaller limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LogLimits:
    """The limits of each log, in bytes."""

    #: Committed entries that a live log keeps for its viewers.
    tail: int = 1 << 19
    #: Records that may wait for one log's commit. A builder that minds its credit, an eighth of it, can't come near:
    #: each of some links may have left as much as that behind while the ledger was failing.
    overdraft: int = 8 << 20
    #: What a cursor reads from the store at a time.
    fetch: int = 1 << 16
