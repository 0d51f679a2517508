"""Let everybody read and write a file that lies elsewhere on the machine."""

import os

from facts import known, reached

reached(os.chmod(known.private, 0o666))
