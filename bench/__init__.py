"""
Benchmarks, one folder a question, each one command that prints JSON lines. They go through what is shipped.

``python -m bench.ipc``: messages, calls and round trips between two processes, against other ways to do it.
``python -m bench.fanout``: one log and many viewers, against other servers.
``python -m bench.path``: the whole way of a log, as fast as it goes; and starts, and huge logs.
``python -m bench.latency``: how long a line takes from the build that writes it to a viewer that reads it.
``python -m bench.recovery``: how soon all is well again when something dies, and what a stuck viewer costs.
``python -m bench.cost``: what a line, a frame, a viewer, a commit and a build cost.
``python -m bench.publish``: from a request to the release that answers, against the same by hand; hooks, open pages.
``python -m bench.serving``: small files over many connections, beside other servers.
``python -m bench.search``: lines that match in a sealed log of 1 GiB, beside ripgrep on its text.
``python -m bench.profile``: where the time goes.

``make bench`` (``python -m bench``) runs them all, and prints tables and, at the end, all bars;
``python -m bench.page`` puts what was found into docs/performance.md. Beside each peer, used as its manual has it,
stands the same peer with our way of batching, so that what is ours can be told from what is the batching's. What they
share is in `bench.common`.
"""
