"""Numbers of things in sentences. Bottom layer, pure; used wherever people are told how many there are."""

from __future__ import annotations


def counted(number: int, thing: str, things: str = "") -> str:
    """
    Return a number of things as people say it: "1 file", "2 files".

    :param things: what several of them are called, if that isn't ``thing`` with an s
    """
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"
