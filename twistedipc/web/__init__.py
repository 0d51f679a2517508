"""
The HTTP API, the WebSockets, the page, and the site of the releases. On ``server``; composed by ``taps``.

``site`` is what listens on the API's port: the page's paths go to ``page``, all others to ``api``. The rooms, from the
bottom up:

- ``http``: connections, requests and files, bounded, as every site needs them
- ``access``: who is calling, what they may do, and what their token holds open
- ``logs``: a log as one HTTP response; ``live``: WebSockets
- ``page``: the page; ``releases``: the releases, on a port of their own
- ``api``: the routes of the API
"""
