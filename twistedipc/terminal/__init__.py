"""
What a person sees in a terminal: strangers' text made safe, and what a build says, in words. Without Twisted. Used by
``web`` (a log as text) and by ``cli``.

- ``escapes``: removes everything that a terminal would obey, but for colours
- ``drawing``: a line that draws over itself, as a terminal would show it
- ``wording``: a build's own messages, in words; ``amounts``: times and sizes
- ``printer``: writes a log to a terminal or a file, with a ``bar`` below it while it goes on
"""
