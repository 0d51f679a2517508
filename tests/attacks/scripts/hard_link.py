"""Give a file of the machine a name in what is released."""

import os

from facts import known, reached

os.makedirs("dist", exist_ok=True)
reached(os.link(known.private, "dist/leak.html"))
