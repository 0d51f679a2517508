"""
WebSockets: logs and news, as they happen.

What is said on a socket is a conversation, apart from how its bytes go out::

    sockets  →  viewers (Autobahn's protocol)  ⇄  conversation: one_log | subscriptions
                                                       │ news, followers
                                                       ▼
                                                    output (which viewers are)

- ``sockets``: the WebSockets of an apiserver, as resources for requests
- ``viewers``: a viewer's socket, with ``limits`` (what it may cost, when it is given up), ``deflate`` (agreeing on
  compression) and ``lean`` (an open socket in little memory)
- ``conversation``: what a conversation is, and what it reads from; ``output``: what it writes to
- ``one_log`` and ``subscriptions``: the two kinds of conversations; ``messages``: theirs
- ``news``: builds' states, and what builds say in brief; ``followers``: logs, one crowd for all who are at the same
  place
"""
