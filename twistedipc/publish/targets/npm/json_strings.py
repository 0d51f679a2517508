"""
Strings in a JSON file replaced, and nothing else of it changed: indentation, order and line ends stay. Pure; used by
``versioning``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\],:]', re.DOTALL)


def with_strings(data: bytes, wanted: Mapping[tuple[str, ...], str]) -> bytes:
    """
    Return the file with other strings.

    :param data: valid JSON in UTF-8, maybe after a byte order mark
    :param wanted: keys that lead to a string, from the top -> the new string. What isn't there isn't added.
    """
    parts: list[bytes] = []
    copied = 0
    above: list[str | None] = []  # the keys that lead here; None in a list
    objects: list[bool] = []
    key_next = False
    for token in _TOKEN.finditer(data):
        text = token[0]
        if text in (b"{", b"["):
            objects.append(text == b"{")
            above.append(None)
            key_next = objects[-1]
        elif text in (b"}", b"]"):
            objects.pop()
            above.pop()
            key_next = False
        elif text == b",":
            key_next = objects[-1]
        elif text == b":":
            continue
        elif key_next:
            key_next = False
            above[-1] = _decoded(text)
        elif all(objects):
            new = wanted.get(tuple(key for key in above if key is not None))
            if new is not None and _decoded(text) != new:
                parts += [data[copied : token.start()], json.dumps(new, ensure_ascii=False).encode()]
                copied = token.end()
    return b"".join([*parts, data[copied:]])


def _decoded(text: bytes) -> str:
    return str(json.loads(text.decode("utf-8", "replace"), strict=False))
