"""Make a control group."""

import os

from facts import known, reached

folder = os.path.join(known.groups, "mine-of-a-build")
os.mkdir(folder)
os.rmdir(folder)
reached(folder)
