"""
What leaves the platform: tells others what the ledger says is to be told. ``lifecycle`` and ``releasing`` write that by
the transactions of what happens; nothing of it is in memory alone.

- ``sender``: what is told next, and what becomes of it
- ``telling``: one thing, to its end
"""
