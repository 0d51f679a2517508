"""
Benchmarks, one folder a question, each one command that prints JSON lines. They go through what is shipped.

``python -m bench.latency``: how long a line takes from the build that writes it to a viewer that reads it.
``python -m bench.ipc``: messages, calls and round trips between two processes, against other ways to do it.
``python -m bench.fanout``: one log and many viewers, against other servers.

``make bench`` (``python -m bench``) runs those that compare us with others, and prints tables of ratios. Beside each
peer, used as its manual has it, stands the same peer with our way of batching, so that what is ours can be told from
what is the batching's. What they share is in `bench.common`.
"""
