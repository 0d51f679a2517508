"""
The HTTP API.

The way of a request: ``resource`` (who asks, may they, is it well formed) → ``routes`` (the one table; ``route`` is
its type) → the route's function, which takes a ``call.Call`` and returns a ``call.Reply``.

- the functions of the routes, one module for each kind of thing: ``builds``, ``logs``, ``projects``, ``releases``,
  ``service``, ``tokens``, ``uploads``
- ``schemas``, ``queries``: JSON and queries as types; ``openapi``: the document
- ``context``: what the functions work with
"""
