"""
Failures of front-end builds, made by the real tools: what each printed, and the line that a developer would name as the
cause. `test_causes.py` holds what `twistedipc why` finds in them.

``python -m tests.failures [NAME …]`` makes them again, in ``fixtures/causes``: it installs each kit of tools once, lays
the case's files beside it, and keeps what the failing command printed. It needs npm, and the registry that npm is set
up for; some kits are hundreds of megabytes. ``fixtures/causes/made.json`` says by which versions the kept ones were
made, and how the commands ended.

======= =================================================
kits    the tools, as npm installs them together
cases   the rows: files, the command, the line to be found
making  lays a case out, runs it, and tidies what it printed
======= =================================================
"""
