"""
Sealed logs: what has been written of a log, kept small and searchable. Bytes in, bytes out; ``storage`` keeps them, and
``server`` decides when.

* ``chunk``: some hundred kilobytes of a log's messages as one piece, compressed, which says itself whether it is whole.
* ``messages``: the messages of a log, taken apart for a chunk.
* ``strings``: JSON strings as text, all of a chunk's at once.
* ``words``: what a person searches in: lines without escape sequences, and these beside them.
* ``grams``: the row beside a chunk by which a search knows, without opening it, that something isn't in it.
* ``outline``: where the steps, the groups, the remarks and the first errors of a log are.
* ``arrays``: numpy, loaded when it is needed first.
* ``making``: all of these at once, of messages that are to be sealed.
"""
