"""
`twistedipc`, the command for people and their scripts. Top layer: it talks to an apiserver over HTTP like any other
client, except for the commands that work on the machine itself: `init`, `demo`, `caches`, `toolchains`, and
``token create --config`` and ``secrets rotate``, which work straight in an apiserver's ledger.

The modules:

- ``main``: all commands, and what the process exits with; ``failures``: the exit codes
- ``client``: HTTP; ``access``: which server, which token; ``waiting``: why a build doesn't go on
- ``logs``: reading a log to its end, and checking it (``terminal`` shows it); ``output``: tables and times
- the commands, by group: ``projects``, ``builds``, ``releases``, ``tokens``, ``sessions``, ``login``, ``setup``
- ``secrets``, ``environment``: the commands for a project's secrets, variables and registries; ``environments``: those
  for its environments
- ``targets``: the options for a project's targets, made from the registry; ``settings``: those for how it is built
- ``imports``, with the folder ``importing``: what other hosts' configuration says of a project
- ``approvals``: what a build would change, approved or refused
- ``people``: accounts, and the members of projects
- ``audit``: what people and builders did; ``provenance``: where releases and packages come from
- ``doctor``: what is wrong in a service's configuration
- ``sealing``: the key by which secrets are sealed
- ``builders``: builders and their keys; ``joining``: what a builder's machine is given of them
- ``caches``: what builds keep, on a builder's machine
- ``toolchains``: what a builder has fetched
- ``repositories``: how a private repository is read
- ``inspect``: what a project is, without building it
- ``machine``: which builder, for the commands on its own machine
- ``ledger``: work on a ledger without a reactor
- ``demo``, with ``sample`` (the project that it builds) and ``services`` (the two processes that it runs)
"""

from twistedipc.cli.main import main

__all__ = ["main"]
