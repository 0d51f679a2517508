"""
Benchmarks, one folder a question, each one command that prints JSON lines. They go through the real services.

``python -m bench.latency``: how long a line takes from the build that writes it to a viewer that reads it.
"""
