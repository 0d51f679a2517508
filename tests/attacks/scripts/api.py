"""Reach the platform's API, which listens on the machine's loopback address."""

from urllib.request import urlopen

from facts import known, reached

reached(urlopen(f"http://127.0.0.1:{known.api}/healthz", timeout=5).read())
