"""
The ledger: everything that must outlive a process, and the only place that knows SQL.

``ledger`` (threads, grouped commits) runs the functions of the query modules, each of which takes a connection and
plain values and returns the frozen rows of ``rows``:

- ``projects``, ``secrets`` (how their values are sealed), ``tokens``, ``audit``
- ``people`` (accounts, invitations), ``members`` (who has which role in a project)
- ``resealing`` (how the key of ``secrets`` is replaced)
- ``provenance``: what is signed of releases and packages; ``signing``: by which key
- ``access`` (how private repositories are read)
- ``builds`` (what people ask for), ``attempts`` (how they change their state), ``reruns`` (by the apiserver itself)
- ``logs``
- ``artifacts`` (the archives on disk, and their rows), ``releases``, ``standing`` (why a release isn't live)
- ``approvals`` (who may approve what goes live, and what follows)
- ``permits`` (what an attempt was offered to publish, and got a permit for), ``seen`` (what an attempt's end is judged
  by), ``publications`` (packages that are stored, for the apiserver to publish)
- ``builders`` (those that have a key of their own, and their keys); ``endings`` (which keys and tokens expire soon)
- ``build_secrets`` (of projects' builds, and which of them an attempt is given)

``tables`` is the schema as data, ``migrations`` how a database on disk comes to have it, ``columns`` how values get
into and out of columns, ``prepared`` how a statement that is run all the time gets by without SQLAlchemy's part in
it. ``guard`` is how one apiserver has the database for itself, ``clock`` what the ledger's threads wait by. ``errors``
are the errors of the callers' terms, ``faults`` how a driver's errors become these. On top of ``builds``; imported by
``server`` and ``web``; knows neither.
"""
