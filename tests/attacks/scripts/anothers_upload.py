"""Hand something in as what another attempt has built."""

from urllib.request import Request, urlopen

from facts import known, reached

url = f"http://127.0.0.1:{known.api}/api/v1/uploads/1-1"
reached(urlopen(Request(url, b"mine", {"Authorization": "Bearer tipu_guessed"}, method="PUT"), timeout=5).status)
