"""
How a link is made, and what owns its connection.

    dial.py          keeps one connection to an endpoint: `DialService`
    dialling.py      the states of that, as a table
    listen.py        accepts connections, bounded: `ListenService`
    once.py          a link that doesn't come back: `OneLink`
    next_link.py     what waits for the next link of a remote, or why there is none to wait for
"""
