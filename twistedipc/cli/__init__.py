"""
`twistedipc`, the command for people and their scripts. Top layer: it talks to an apiserver over HTTP like any other
client, except for the two commands that set things up on the machine itself (`init`, `demo`) and
``token create --config``, which makes the first token of an apiserver straight in its ledger.

The map: ``main`` (all commands, and what the process exits with), ``client`` (HTTP), ``access`` (which server, which
token), ``failures`` (exit codes), ``output`` (tables, times), ``logs`` (reading a log to its end, and checking it),
``printer`` and ``progress`` (showing it), ``ledger`` (work on a ledger without a reactor); a module for each group of
commands: ``projects``, ``builds``, ``releases``, ``tokens``, ``login``, ``setup``; and ``demo`` with ``sample`` (the
project that it builds) and ``services`` (the two processes that it runs).
"""

from twistedipc.cli.main import main

__all__ = ["main"]
