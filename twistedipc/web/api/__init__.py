"""
The HTTP API.

The way of a request: ``resource`` (who calls, may they, is the request well formed) → ``routes`` (the one table;
``route`` is its type) → the route's function, which takes a ``call.Call`` and returns a ``call.Reply``.

- the functions of the routes, one module for each kind of thing: ``audit``, ``builders``, ``builds``, ``changes``,
  ``domains``, ``downloads``, ``failures``, ``feeds``, ``hooks``, ``logs``, ``packages``, ``people``, ``poll``,
  ``projects``, ``provenance``, ``queues``, ``receivers``, ``releases``, ``repositories``, ``retention``, ``schedules``,
  ``searches``, ``service``, ``sign_in``, ``targets``, ``tokens``, ``uploads``
- ``sessions``: how browsers' sessions begin; ``passwords``: one-time passwords that callers give
- ``schemas`` and ``queries``: JSON and queries as types; ``openapi``: the document
- ``context``: what the functions work with
- ``mcp/``: the Model Context Protocol

To add a route: write its function, with ``Call[Query, Body]`` and ``Reply[Answer]`` as annotations (None for what it
doesn't have), and give it a line in ``routes``. Validation, authorisation and the document follow from these.
"""
