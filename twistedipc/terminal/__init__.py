"""
What a person sees in a terminal: strangers' text made safe, and what a build says, in words. Pure, and without Twisted.
Used by ``web`` (a log as text) and by ``cli``.

- ``escapes``: removes what a terminal would obey, but for colours
- ``said``: what a build says of itself, in words
- ``bar``: a progress bar below the text
"""
