"""
From a builder's records to every viewer of a log. ``builder_link`` puts records in, ``web`` takes them out; there is no
queue between them. A viewer's cursor is woken when its log has grown, and pulls while its socket takes more::

    builder_link ──► LiveLog.append ──► commits ──► the ledger
                        │ tail                          │
                     rounds wake                   store.read
                        ▼                               ▼
                     LogCursor.take ◄───── behind the tail
                        │ runs: frames, joined once
                        ▼
                     followers ──► sockets

- ``entries``: messages encoded once, and runs of them joined once; ``shared``: the same bytes for many sockets
- ``limits``: how much memory each log may take
- ``live``: one log in memory, and its tail; ``rounds``: when viewers are woken, and how much time that may take
- ``cursor``: a place in a log; ``store``: all logs, live and stored
- ``commits``: records become durable, in groups
- ``following``: logs that are written at another apiserver, read from the ledger
"""
