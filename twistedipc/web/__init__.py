"""
The HTTP API, the WebSockets, the page, and the site of the releases. On ``server``; composed by ``taps``.

The way of a request, from the outside in: ``site`` (what is on the port) → ``channel`` (connections and bodies, all
of it bounded) → ``resource`` (who, may they, is it well formed) → ``routes`` (the one table; ``route`` is its type) →
``api`` (what each route does), with a ``call.Call`` in and a ``call.Reply`` out.

Beside it: ``auth`` (tokens, tickets, origins), ``held`` (what a token has open), ``cookies`` (sessions), ``clients``
(who is behind a proxy), ``hosts`` (whose a host name is), ``problems`` (errors, RFC 9457), ``schemas`` and
``queries`` (JSON and queries as types), ``openapi`` (the document), ``log_stream``, ``log_forms``, ``terminal`` and
``said`` (a log as one response), ``uploads``, ``websocket`` (what is said on a socket) and ``followers`` (logs on
sockets), ``page``, ``releases_site``, ``media``; ``context`` is what all of it stands on. A file as a response is
``file_response``, with ``conditional`` and ``ranges`` (what is to be sent of it), ``file_body`` (sending it) and
``stall`` (giving a client up).
"""
