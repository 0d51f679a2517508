"""
WebSockets: logs and changes of builds, as they happen.

A conversation decides what is said on a socket; a viewer is how its bytes go out::

    sockets ─► viewers (Autobahn's protocol) ◄─► conversation: one_log, subscriptions
                  ▲                                   │
                  └── output ◄── changes, followers ◄─┘

- ``sockets``: the WebSockets of an apiserver, as resources for requests
- ``viewers``: a viewer's socket, with ``limits`` (what it may cost, and when it is given up), ``deflate`` (agreeing on
  compression) and ``lean`` (an open socket in little memory)
- ``conversation``: what a conversation is, and what it reads from; ``output``: what it writes to
- ``one_log`` and ``subscriptions``: the two kinds of conversations; ``messages``: what subscriptions say
- ``changes``: builds' states and gists on one socket; ``followers``: logs, with one crowd for all that are at the same
  place
"""
