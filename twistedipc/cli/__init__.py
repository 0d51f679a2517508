"""
`twistedipc`, the command for people and their scripts. Top layer: it talks to an apiserver over HTTP like any other
client, except for the commands that work on the machine itself: `init`, `demo`, `caches`, `toolchains`, and
``token create --config``, ``secrets rotate`` and ``ledger compact``, which work straight in an apiserver's ledger.

The modules:

- ``main``: all commands, and what the process exits with; ``failures``: the exit codes
- ``client``: HTTP; ``access``: which server, which token; ``contexts``: those that are kept; ``naming``: a project or
  a build that isn't typed; ``folder``: the repository of a folder; ``waiting``: why a build doesn't go on
- ``logs``: reading a log to its end, and checking it (``terminal`` shows it); ``grep``: lines of logs that match;
  ``parts``: which part is shown; ``output``: tables, times and JSON, with ``tables`` (which columns fit) and ``fields``
  (parts of an answer)
- the commands, by group: ``projects``, ``builds``, ``releases``, ``tokens``, ``sessions``, ``login``, ``setup``
- ``watch``: builds as they go, and the page in the browser; ``helping``: help, and what shells complete
- ``downloading``: the files that a build has made
- ``replay``: a build once more, on this machine
- ``why``: why a build failed; the folder ``mcp``: the same, and more, for programs
- ``secrets``, ``environment``: the commands for a project's secrets, variables and registries; ``environments``: those
  for its environments
- ``notify``: to whom a project's news go
- ``targets``: the options for a project's targets, made from the registry; ``settings``: those for how it is built
- ``imports``, with the folder ``importing``: what other hosts' configuration says of a project
- ``approvals``: what a build would change, approved or refused
- ``packages``: what the apiserver has published, how, and its tags; ``passwords``: one-time passwords for registries
- ``people``: accounts, and the members of projects
- ``audit``: what people and builders did; ``provenance``: where releases and packages come from
- ``doctor``: what is wrong in a service's configuration, ``hosting``: of it, certificates and projects' domains;
  ``checkup``: what is wrong with this machine and the server
- ``prune``: what isn't kept any more; ``compacting``: the database's file is made smaller
- ``sealing``: the key by which secrets are sealed
- ``builders``: builders and their keys; ``joining``: what a builder's machine is given of them
- ``caches``: what builds keep, on a builder's machine
- ``toolchains``: what a builder has fetched
- ``repositories``: how a private repository is read; ``hooks``: pushes that build; ``poll``: the same
  where no hook can be; ``schedules``: times; ``previews``: their addresses and their password
- ``domains``: the host names at which a project's release is
- ``inspect``: what a project is, without building it
- ``plan``: which machines so many builds need, by ``costs``, which were measured
- ``machine``: which builder, for the commands on its own machine
- ``ledger``: work on a ledger without a reactor
- ``up``: a platform of one's own, from a folder to its release; ``local``: what it has in common with the demo;
  ``opening``: pages in the browser
- ``demo``, with ``sample`` (the projects that it builds), ``services`` (the two processes that it runs) and
  ``registry`` (to which it publishes packages)
"""

from twistedipc.cli.main import main

__all__ = ["main"]
