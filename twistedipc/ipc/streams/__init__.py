"""
What outlives a connection: reliable streams, and messages that wait for a link.

    sender.py        the sending end of reliable streams, by the rules of ``wire/windows.py``
    receiver.py      the receiving end
    outbox.py        the items that aren't acknowledged yet, in memory or in a file
    unsent.py        calls and messages that wait for a link, in order
"""
