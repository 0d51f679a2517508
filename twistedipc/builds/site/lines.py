"""The lines of ``_redirects`` and ``_headers``, bounded, and the mistakes that are found in them. Pure."""

from __future__ import annotations

from collections.abc import Callable

from twistedipc.builds.site.rules import MAX_BYTES, MAX_LINE, MAX_RULES, BadRules
from twistedipc.builds.site.sources import BadSource
from twistedipc.builds.site.targets import BadTarget


class Mistake(ValueError):
    """What is wrong with one rule, without a full stop."""


class Mistakes:
    """
    Collects what is wrong with rules, so that their author sees more than the first::

        with mistakes.of(place):
            …  # a rule is read; what is wrong with it is noted, and the next one can be read
    """

    def __init__(self) -> None:
        self._found: list[str] = []
        self._place = ""

    def of(self, place: str) -> Mistakes:
        """Begin with the rule at this place."""
        self._place = place
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, Mistake | BadSource | BadTarget):
            return False
        self._found.append(f"{self._place}: {error}")
        return True

    def raise_any(self) -> None:
        """Raise `BadRules` if something was wrong."""
        if self._found:
            raise BadRules.of(self._found)


def read_lines(data: bytes, file: str, read: Callable[[str, str], None]) -> None:
    """
    Call ``read`` with each line that says something, and with its place for people. Raises `BadRules` for what it
    raises as `Mistake`, `BadSource` or `BadTarget`, and for a file that is too large or no text.
    """
    if len(data) > MAX_BYTES:
        raise BadRules(f"{file} has more than {MAX_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")  # some editors put a byte order mark first
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise BadRules(f"{file}, line {number}: it isn't UTF-8") from error
    mistakes = Mistakes()
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        place = f"{file}, line {number}"
        with mistakes.of(place):
            if len(line) > MAX_LINE:
                raise Mistake(f"it has more than {MAX_LINE} characters")
            read(stripped, place)
    mistakes.raise_any()


def check_number(count: int, what: str) -> None:
    """Raise `BadRules` for more rules than a site may have."""
    if count > MAX_RULES:
        raise BadRules(f"there are more than {MAX_RULES} {what}")
