"""
The ledger: everything that must outlive a process, and the only place that knows SQL.

``ledger`` (threads, grouped commits) runs the functions of the query modules, each of which takes a connection and
plain values and returns the frozen rows of ``rows``:

- ``projects``, ``secrets`` (how their values are sealed), ``tokens``, ``audit``
- ``people`` (accounts, invitations), ``members`` (who has which role in a project)
- ``resealing`` (how the key of ``secrets`` is replaced)
- ``provenance``: what is signed of releases and packages; ``signing``: by which key
- ``id_tokens``: what is said of attempts to other services, signed
- ``access`` (how private repositories are read)
- ``builds`` (what people ask for), ``attempts`` (how they change their state), ``reruns`` (by the apiserver itself);
  ``overview``: how all projects stand, in short; ``queue``: which builds begin next
- ``logs``; ``sealed_logs`` (what is compressed of them), ``log_archive`` (that in files), ``log_objects`` (that in S3),
  ``outlines`` (where things are in them); ``log_parts`` (what is read of them to search in them)
- ``artifacts`` (the archives on disk, and their rows), ``releases``, ``standing`` (why a release isn't live),
  ``previews`` (which releases have addresses beside the project's own), ``promotions`` (what makes one live),
  ``preview_passwords`` (by which guests see previews), ``password_hashes`` (how these are kept)
- ``retention``: what isn't kept any more, and how it is deleted
- ``approvals`` (who may approve what goes live, and what follows)
- ``permits`` (what an attempt was offered to publish, and got a permit for), ``seen`` (what an attempt's end is judged
  by), ``publications`` (packages that are stored, for the apiserver to publish), ``packages`` (the same, as people look
  at them), ``package_requests`` (what people ask to be done with published packages), ``package_tags`` (which tags
  somebody else has moved)
- ``hooks`` (secrets, settings and messages of repositories' hosts), ``taking`` (what is made of a message),
  ``refs_gone`` (what ends with a branch or a pull request)
- ``polls`` (which repositories are looked at, and what was seen), ``moved`` (what is made of what has moved there)
- ``schedules`` (when projects are built without anybody's asking)
- ``domains`` (host names of projects beside those that the platform gives)
- ``versions`` (which versions the packages of a build get)
- ``receivers`` (to whom a project's news go), ``outbox`` (what is still to be told to them, and what became of it)
- ``builders`` (those that have a key of their own, and their keys); ``endings`` (which keys and tokens expire soon)
- ``rings``: what a transaction changes of which other apiservers may want to know
- ``build_secrets`` (of projects' builds, and which of them an attempt is given)

``tables`` is the schema as data, ``migrations`` how a database on disk comes to have it, ``columns`` how values get
into and out of columns, ``prepared`` how a statement that is run all the time gets by without SQLAlchemy's part in it.
``engines`` are its connections, ``postgresql`` those to a server, ``clock`` what the ledger's threads wait by.
``guard`` is how one apiserver has a SQLite database for itself, ``presence`` how several share a PostgreSQL:
``apiservers`` (which there are, and what one does for all), ``tenures`` (which has which builder), ``changes`` (what
each tells the others); ``file_locks`` is for what they have on disk. ``errors`` are the errors of the callers' terms,
``faults`` how a driver's errors become these. On top of ``builds`` and ``outgoing``; imported by ``server`` and
``web``; knows neither.
"""
