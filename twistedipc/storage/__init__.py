"""
The ledger: everything that must outlive a process, and the only place that knows SQL.

``ledger`` (threads, grouped commits) runs the functions of the query modules, each of which takes a connection and
plain values and returns the frozen rows of ``rows``:

- ``projects``, ``secrets`` (how their values are sealed), ``tokens``, ``audit``
- ``builds`` (what people ask for), ``attempts`` (what dispatch does with it), ``reruns`` (of what is lost), ``logs``
- ``artifacts`` (the archives on disk, and their rows), ``releases``, ``standing`` (why a release isn't live)

``tables`` is the schema as data, ``migrations`` how a database on disk comes to have it, ``errors`` what can go
wrong in the caller's terms, ``columns`` how values get into and out of columns, ``prepared`` how a statement that
is run all the time gets by without SQLAlchemy's part in it. On top of ``builds``; imported by ``server`` and ``web``;
knows neither.
"""
