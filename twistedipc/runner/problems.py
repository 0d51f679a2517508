"""
The errors and warnings that tools print of the sources: lines -> annotations with their places. Pure; used by
``printed``.

`matchers` is the table: how the lines of each tool look. A line that has none of `NEEDLES` begins no problem, so it
costs nothing to leave almost all output alone. Patterns are tried on lines without escape codes, of at most `MAX_LINE`
characters; each of them takes linear time.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Final, NamedTuple

from twistedipc.builds.logs import MAX_REMARK, Annotation

#: The longest line that is looked at, in characters. Tools' errors are shorter; bundles are longer.
MAX_LINE: Final = 2000

# The last annotations that aren't made again: tools like to say twice what has failed.
_REMEMBERED = 500

_FILE = r"(?P<file>[^\s:][^:\n]{0,500}?)"
_PLACE = r"(?P<line>\d{1,9}):(?P<column>\d{1,9})"
_RESOLVE = (
    r"(?:Roll(?:up|down) failed to resolve import|Could not resolve) [^\n]{1,500} from \"(?P<file>[^\"\n]{1,500})\".*"
)


class Matcher(NamedTuple):
    """
    How one tool's problems look. The groups of the patterns are what an annotation has: ``level``, ``message``,
    ``file``, ``line``, ``column``.

    - ``first``: the line that begins a problem, and ``needles``: one of them is in it, in small letters
    - ``above``: a line shortly before it, that has the rest. It may stand over several problems
    - ``says``: the next line that isn't empty goes on with the message; one that ``skips`` matches doesn't
    - ``then``: patterns of which one of the next ``within`` lines matches one, and has the rest
    - ``ruled``: the message ends in the rule that is broken, behind two spaces
    - ``placed``: it is no problem without a file
    """

    tool: str
    needles: tuple[str, ...]
    first: re.Pattern[str]
    above: re.Pattern[str] | None = None
    says: bool = False
    skips: re.Pattern[str] | None = None
    then: tuple[re.Pattern[str], ...] = ()
    within: int = 0
    ruled: bool = False
    placed: bool = True


_ERROR = ("error",)
_EITHER = ("error", "warning")

#: What lines that begin a problem have in them, in small letters.
NEEDLES: Final = (*_EITHER, "●", "fail ", "╭")


@cache
def matchers() -> Sequence[Matcher]:
    """Return the table. It is made for the first line that may be a problem: most steps have none, and it is large."""
    return (
        Matcher(
            "tsc",
            _ERROR,
            re.compile(
                r"(?P<file>\S[^\n]{0,500}?)\((?P<line>\d{1,9}),(?P<column>\d{1,9})\): "
                r"(?P<level>error|warning) (?P<message>TS\d+: .+)"
            ),
        ),
        Matcher(
            "tsc --pretty", _ERROR, re.compile(rf"{_FILE}:{_PLACE} - (?P<level>error|warning) (?P<message>TS\d+: .+)")
        ),
        Matcher("tsc, of no place", _ERROR, re.compile(r"(?P<level>error) (?P<message>TS\d+: .+)"), placed=False),
        Matcher(
            "ts-loader",
            _EITHER,
            re.compile(
                r"\[tsl\] (?P<level>ERROR|WARNING) in "
                r"(?P<file>\S[^\n]{0,500}?)\((?P<line>\d{1,9}),(?P<column>\d{1,9})\)"
            ),
            says=True,
            within=1,
        ),
        Matcher(
            "eslint, stylish",
            _EITHER,
            re.compile(rf"\s+{_PLACE}\s+(?P<level>error|warning)\s+(?P<message>\S.*)"),
            above=re.compile(r"(?P<file>\S.*\.\w+)"),
            ruled=True,
        ),
        Matcher(
            "next lint",
            _EITHER,
            re.compile(rf"{_PLACE}\s+(?P<level>Error|Warning): (?P<message>\S.*)"),
            above=re.compile(r"(?P<file>\./\S.*\.\w+)"),
            ruled=True,
        ),
        Matcher(
            "eslint, unix",
            _EITHER,
            re.compile(rf"{_FILE}:{_PLACE}: (?P<message>\S.*) \[(?P<level>Error|Warning)(?P<rule>/[^\]\s]+)?\]"),
        ),
        Matcher(
            "compilers; esbuild in vite",
            _EITHER,
            re.compile(rf"{_FILE}:{_PLACE}: (?:fatal )?(?P<level>error|ERROR|warning|WARNING): (?P<message>\S.*)"),
        ),
        Matcher(
            "esbuild",
            _EITHER,
            re.compile(r"[✘▲X] \[(?P<level>ERROR|WARNING)\] (?P<message>\S.*)"),
            then=(re.compile(rf"\s+{_FILE}:{_PLACE}:"),),
            within=3,
            placed=False,
        ),
        Matcher(
            "vite, with rollup",
            _ERROR,
            re.compile(r"error during build:"),
            then=(
                re.compile(rf"(?:\[[\w:-]+\] )?{_FILE} \({_PLACE}\): (?P<message>\S.*)"),
                re.compile(rf"(?:\[[\w:-]+\]:? )?(?P<message>{_RESOLVE})"),
            ),
            within=2,
        ),
        Matcher("vite, an import", _ERROR, re.compile(rf"Error: \[vite[\w:-]*\]:? (?P<message>{_RESOLVE})")),
        Matcher(
            "vite, with rolldown",
            ("╭",),
            re.compile(rf"\s+╭─\[ {_FILE}:{_PLACE} \]"),
            above=re.compile(r"(?:Error: )?(?P<message>\[[A-Z][A-Z_]{2,60}\] \S.*)"),
        ),
        Matcher(
            "webpack",
            _EITHER,
            re.compile(
                rf"(?P<level>ERROR|WARNING) in (?=\S*[./])(?P<file>[^\s:]{{1,500}})(?:[ :]{_PLACE}(?:-[\d:]+)?)?"
            ),
            says=True,
            skips=re.compile(r"\./\S+ \d+:\d+(?:-[\d:]+)?|\[tsl\] .*"),
            within=3,
        ),
        Matcher(
            "webpack, an entry",
            _ERROR,
            re.compile(r"(?P<level>ERROR) in [\w-]{1,100}"),
            then=(re.compile(r"(?P<message>Module not found: \S.*)"),),
            within=2,
            placed=False,
        ),
        Matcher(
            "next build",
            _ERROR,
            re.compile(r"Type error: (?P<message>\S.*)"),
            above=re.compile(rf"{_FILE}:{_PLACE}"),
        ),
        Matcher(
            "jest",
            ("●",),
            re.compile(r"\s+● (?!Console$|Deprecation Warning|Validation Warning)(?P<message>\S.*)"),
            says=True,
            then=(
                re.compile(rf"\s+at (?:[^()\n]*\()?(?!node:)(?!\S*node_modules/){_FILE}:{_PLACE}\)?"),
                re.compile(rf"\s+\w*Error: {_FILE}: (?P<detail>\S.*) \({_PLACE}\)"),
            ),
            within=60,  # without a place, it is a list's item
        ),
        Matcher(
            "vitest",
            ("fail ",),
            re.compile(r"\s?FAIL\s+(?P<message>\S.* > \S.*)"),
            says=True,
            then=(re.compile(rf"\s*❯ (?:\S+ )?(?!\S*node_modules/){_FILE}:{_PLACE}"),),
            within=60,
            placed=False,
        ),
    )


_RULE = re.compile(r"@?[\w-]+(?:/[\w.-]+)*")


@cache
def _by_needle() -> Mapping[str, Sequence[Matcher]]:
    return {needle: [one for one in matchers() if needle in one.needles] for needle in NEEDLES}


# Escape codes; as in `masking`, linear.
_CODE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Begun:
    """A problem of which more lines are to come."""

    def __init__(self, matcher: Matcher, found: dict[str, str]) -> None:
        self.matcher = matcher
        self.found = found
        self.left = matcher.within
        self.says = matcher.says


class Problems:
    """
    The problems in the output of one step. ``tops`` are the folders that paths are made relative to, the deepest first.
    """

    def __init__(self, tops: Sequence[str] = ()) -> None:
        self._tops = tops
        self._begun: _Begun | None = None
        self._heading: tuple[Matcher, bytes, dict[str, str]] | None = None  # that stands over the last line
        self._made: deque[Annotation] = deque(maxlen=_REMEMBERED)

    @property
    def waiting(self) -> bool:
        """Whether the next line matters, whatever is in it."""
        return self._begun is not None

    def take(self, line: bytes, above: Callable[[], Sequence[bytes]]) -> list[Annotation]:
        """
        Take a line; return the problems that it completes. ``above`` returns the lines before it, the last one last.
        """
        text = _read(line)
        made = self._goes_on(text)
        lower = text.lower()
        for needle, candidates in _by_needle().items():
            if needle in lower:
                for matcher in candidates:
                    found = self._begins(matcher, text, line, above)
                    if found is not None:
                        return made + self._begin(matcher, found)
        return made

    def finish(self) -> list[Annotation]:
        """Return the problem of which more lines were to come: none do."""
        begun, self._begun = self._begun, None
        return self._annotation(begun.matcher, begun.found) if begun is not None else []

    def _begins(
        self, matcher: Matcher, text: str, line: bytes, above: Callable[[], Sequence[bytes]]
    ) -> dict[str, str] | None:
        match = matcher.first.fullmatch(text)
        if match is None:
            return None
        if matcher.above is None:
            return _groups(match)
        heading = self._over(matcher, matcher.above, above())
        if heading is None:
            return None
        self._heading = (matcher, line, heading)
        return {**heading, **_groups(match)}

    def _over(self, matcher: Matcher, pattern: re.Pattern[str], above: Sequence[bytes]) -> dict[str, str] | None:
        """Return what the heading says that a line stands under, alone or behind others of its kind."""
        if self._heading is not None and above and self._heading[:2] == (matcher, above[-1]):
            return self._heading[2]
        for line in reversed(above):
            text = _read(line)
            if matcher.first.fullmatch(text) is None:
                match = pattern.fullmatch(text)
                return None if match is None else _groups(match)
        return None

    def _begin(self, matcher: Matcher, found: dict[str, str]) -> list[Annotation]:
        made = self.finish()
        if not matcher.within:
            return made + self._annotation(matcher, found)
        self._begun = _Begun(matcher, found)
        return made

    def _goes_on(self, text: str) -> list[Annotation]:
        begun = self._begun
        if begun is None:
            return []
        begun.left -= 1
        matcher, said = begun.matcher, text.strip()
        for then in matcher.then:
            if (match := then.fullmatch(text)) is not None:
                begun.found |= _groups(match)
                return self.finish()
        if begun.says and said and (matcher.skips is None or matcher.skips.fullmatch(text) is None):
            begun.says = False
            message = begun.found.get("message")
            begun.found["message"] = f"{message}: {said}" if message else said
            if not matcher.then:
                return self.finish()
        return self.finish() if begun.left <= 0 else []

    def _annotation(self, matcher: Matcher, found: dict[str, str]) -> list[Annotation]:
        message, file = found.get("message", "").strip(), relative(found.get("file", ""), self._tops)
        if not message or (matcher.placed and not file):
            return []
        if "detail" in found:
            message = f"{message}: {found['detail']}"
        rule = found.get("rule", "")[1:]
        if matcher.ruled:
            said, gap, last = message.rpartition("  ")
            if gap and _RULE.fullmatch(last):
                message, rule = said.rstrip(), last
        made = Annotation(
            "warning" if found.get("level", "").lower() == "warning" else "error",
            cut(f"{message} ({rule})" if rule else message, MAX_REMARK),
            file,
            int(found.get("line", "0")) if file else 0,
            int(found.get("column", "0")) if file else 0,
            repeats=True,
        )
        if made in self._made:
            return []
        self._made.append(made)
        return [made]


def _groups(match: re.Match[str]) -> dict[str, str]:
    return {name: value for name, value in match.groupdict().items() if value}


def _read(line: bytes) -> str:
    """Return a line as text; "" if it is too long."""
    text = plain(line.decode("utf-8", "replace")) if len(line) <= 4 * MAX_LINE else ""
    return text if len(text) <= MAX_LINE else ""


def plain(text: str) -> str:
    """Return a line without escape codes and other controls, and without blanks at its end."""
    text = _CODE.sub("", text) if "\x1b" in text else text
    return _UNPRINTABLE.sub("", text).rstrip()


def cut(text: str, most: int) -> str:
    """Return a text of at most so many characters; one that was cut ends in "…"."""
    return text if len(text) <= most else text[: most - 1] + "…"


def relative(file: str, tops: Sequence[str]) -> str:
    """Return a path as it is in the repository; "" if it is too long. ``tops`` end in "/"."""
    for top in tops:
        if file.startswith(top):
            file = file[len(top) :]
            break
    file = file.removeprefix("./")
    return file if len(file) <= 1000 else ""
