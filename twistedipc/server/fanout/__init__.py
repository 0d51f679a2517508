"""
From a builder's records to every viewer of a log. ``builders`` puts records in, ``web`` takes them out.

- ``logs``: the live log, the cursor, and the store behind both
- ``commits``: records become durable, in groups
- ``rounds``: when viewers are woken, and how much time that may take
- ``shared``: the same bytes for many sockets
"""
