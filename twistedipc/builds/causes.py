"""
Where a failed step says what is wrong: the line that a developer would point at. Bottom layer, pure.

What is known of a failure (`explanations`) names its line. Else the table `MARKS` ranks what tools print: lines that
say what is wrong, then those that only say that something is, and of the best rank the first one, since what follows an
error is mostly its consequence. Lines that a success prints as well don't count, if there are others.

What only repeats that a command has failed is never the cause: package managers and task runners print that below.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from twistedipc.builds.explanations import MAX_LINE, Explanation, explain_at, last_output
from twistedipc.builds.templates import template

#: How many lines are between a heading ("error during build:") and what it is of, at most.
_BELOW: Final = 6

#: How many lines before an annotation have the one of which it was made, at most, and by how many characters of its
#: message that is known.
_ABOVE: Final = 8
_QUOTED: Final = 60

# What task runners and npm put in front of each line: "web:build: ", "packages/app build: ", "[types] ", "npm error ".
_PREFIX: Final = re.compile(
    r"(?:(?:npm (?:error|ERR!)|\[(?![Ww]arn|WARN|[!\]]|\w*Error\])[\w.:@/ -]{1,40}\]|@?[\w./-]{1,60}[:#][\w-]{1,40}:|"
    r"[\w./@-]{1,60} [\w:-]{1,30}:(?= (?![\d/])))[ \t]+)?"
)

# Says only that a command failed, or is part of something else. (Blanks are taken once: what begins with ".*" would
# be tried from each of them.)
_EMPTY: Final = re.compile(
    r"\s*+(?:at (?:async )?[\w$.<>\[/(#*]|at [\w$. ]+ \(|Node\.js v\d|> |\^+\s*$|~+\s*$|throw (?:new )?\w"
    r"|[-=─━_*#⎯\s]+$|\d*\s*[|│](?: |$)|code: '|errno: |syscall: |❯ |\d+[|:] )"
    r"|.*\b(?:throw new \w|reject\(new \w|Error\.captureStackTrace|console\.error\()"
    r"|(?:npm (?:error|ERR!))?\s*(?:$|code (?:\d+|E[A-Z]+)\s*$|path /|command(?: failed$| sh )|workspace |location "
    r"|errno |Lifecycle script |Exit status |This is probably not a problem with npm|For a full report see"
    r"|A complete log of this run|/\S*-report\.txt$|Failed at the |Conflicting peer dependency)"
    r"|.*(?:\bELIFECYCLE\b|ERR_PNPM_RECURSIVE_\w+|[Cc]ommand failed(?: with exit code|[:.]?$)|[Ee]xited (?:with )?"
    r"(?:code |\()\d|exited with exit code|\b0 errors?\b(?! and [1-9])|\b[Nn]o errors?\b|\berrors?: 0\b|\b0 fail)"
    r"|(?:[✖×] )?\d+ problems? \(|.*\bcompiled with \d+ errors?\b|\s*(?:ERROR )?run failed: |error Command failed"
    r"|.*\b(?:Found|found) \d+ errors?\b|\s*(?:Tests?|Test Files|Test Suites|Snapshots|Failed|Tasks?):? +\d"
)

# What is wrong comes below.
_HEADING: Final = re.compile(
    r"\s*+(?:.*\berror during build:|ERROR in \S.*|\W{0,4}Build failed\.?(?: in [\d.]+ ?m?s| with \d+ errors?:?)?"
    r"|(?:> )?Failed to compile\.?|.*Test suite failed to run|Module build failed.*:|[⎯─━ ]*Failed Tests \d+[⎯─━ ]*"
    r"|.*\b(?:[Ff]ail(?:ed|ure)|FAILED|[Ee]rrors?)\b.*:|> Build error occurred|\[ERROR\]"
    r"|failed to load config from \S+|.*\bFailed Suites \d+[⎯─━ ]*)\s*$"
)

# Between a heading and what it is of: where it is.
_PLACE: Final = re.compile(
    r"\s*(?:[-*>•] )?(?:\.{0,2}/|[A-Za-z]:\\|@?[\w-]+/)?[\w@.\[\]()/\\ -]+\.\w+(?:[:( ]\d[\d:,-]*\)?)?\s*:?$"
)

#: What says it, from the surest rank to what is hardly more than a word: the beginnings of lines.
MARKS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # compilers: tsc, vue-tsc, Angular, and what bundlers and frameworks print of them
        r"(?:.*\berror )?TS\d{4,5}: |.* - error TS\d|.*\berror\b.* TS-?\d+: |.*\bNG\d+: |Type error: ",
        # errors by their names, as Node prints them, also in front of them where they are from
        r"(?:\s|\[[\w:./!@ -]+\] )*+(?:Uncaught |Unhandled |Caused by: )*+(?:[A-Z][A-Za-z]*)?(?:Error|Exception)"
        r"(?: \[\w+\])?(?: \(\w[^)]*\))?: \S",
        r"FATAL ERROR: |fatal: |panic: ",
        # bundlers: Vite, Rollup, Rolldown, webpack, esbuild
        r"\[[\w!:./-]+\] (?:\[[\w:./-]+\] )*+(?:RollupError: |\S.*(?:failed|[Cc]ould not|[Cc]annot|[Uu]ndefined"
        r"|[Uu]nexpected|[Ii]nvalid|[Uu]nknown|not |no |Error))",
        r"\[(?:[A-Z][A-Z_]+|[A-Z]\w*Error)\] \S|✘ \[ERROR\] |X \[ERROR\] |.*:\d+:\d+: (?:ERROR|error): ",
        r".*(?:is not exported by|[Cc]ould not resolve|failed to resolve import|Can't resolve|Attempted import error"
        r"|Cannot find (?:module|package)|Module (?:not found|parse failed)|does not provide an export)",
        r".*\b(?:size limit|budget)\b.* exceeded|.*\bexceeded\b.*\bbudget|CssSyntaxError",
        # linters: ESLint, Stylelint, Prettier
        r"\s+\d+:\d+\s+(?:error|✖)\s|ESLint (?:found too many|couldn't find)|Parsing error: ",
        r"\[warn\] (?!Code style)\S+\.\w+$|\[error\] \S",
        # tests: Jest, Vitest, node:test, and what they are wanted to cover
        r"\s*● (?!Console)\S.*|\s*(?:FAIL|×) +\S.* (?:>|›) .*|\s*not ok \d+ |\s*✖ (?!\d+ problem|failing)\S",
        r"No (?:test|spec) files found|No tests found|ERROR: Coverage for|(?:Jest: )?\"?\w+\"? coverage threshold",
        # shells and their programs
        r"(?:\S*/)?(?:sh|bash|dash|zsh)(?:: line \d+|: \d+)?: \S",
        r"[\w./-]+: (?:cannot |can't |missing |invalid |unrecognized |.*(?:No such file or directory|Permission denied"
        r"|not found))",
        r"(?:Killed|Aborted|Segmentation fault|Bus error|Illegal instruction|Terminated|Out of memory)\b",
        # package managers
        r"(?:\s|\[\w+\] )*+ERR_[A-Z_]+ |error: \S|error (?![Cc]ommand)[A-Z]\S",
        r"➤ YN\d+: .*(?:would have been modified|doesn't |isn't |not |failed|[Cc]ouldn't)",
    ),
    # that something is wrong
    (
        r"\s*(?:[✖✘×✗❌⨯⛔]|\[!\]|\[?(?:ERROR|FATAL|FAIL|FAILED|CRITICAL)\b|[Ee]rror\b|[Ff]atal\b|Failed\b|Oops!)",
        r".*(?:\b[A-Za-z]*Error: |\berror: |\bERROR\b|\bERR!|\bE[A-Z]{4,}\b:)",
        # a place in a file, as most tools begin what they have to say of it
        r"[\w@./-]+\.\w{1,6}:\d+(?::\d+)?(?::| -)? +(?!at\b|warn|info|note)\S",
    ),
    # words
    (
        r".*\b(?:[Ff]ail(?:ed|ure|s)?|[Cc](?:an't|annot|ould not)|[Ii]n(?:compatible|valid)|[Mm]issing|[Dd]enied"
        r"|[Uu]n(?:able|known|expected|defined|resolved|handled)|[Nn]ot (?:found|defined|exist|supported|allowed"
        r"|permitted|compatible)|[Uu]n(?:used|listed)|[Rr]efused|[Rr]equire[sd]|[Ee]rrors?|does not|[Mm]ust"
        r"|[Tt]imed out)\b",
    ),
)

# One of these is in each line that a mark or a heading fits, in small letters: most lines need no other look.
_HINTS: Final = (
    *("error", "err_", "err!", "fail", "exception", "fatal", "panic", "can't", "cannot", "could not", "couldn't"),
    *(
        "invalid",
        "incompatible",
        "missing",
        "denied",
        "refused",
        "require",
        "not ",
        "n't ",
        "must",
        "timed out",
        "exceed",
    ),
    *(
        "unable",
        "unknown",
        "unexpected",
        "undefined",
        "unresolved",
        "unhandled",
        "unrecognized",
        "unused",
        "unlisted",
        "resolve",
        "exported",
    ),
    *(
        "killed",
        "abort",
        "fault",
        "illegal",
        "terminated",
        "memory",
        "critical",
        "oops",
        "threshold",
        "no test",
        "no spec",
    ),
    *("ts1", "ts2", "ts5", "ts6", "ts7", "ts8", "ts9", "ng0", "ng1", "ng2", "ng5", "ng8", "ng9", "yn0", "sh: "),
    *("[warn]", "[!]", "●", "✖", "✘", "×", "✗", "❌", "⨯", "⛔"),
)

_HINT: Final = re.compile("|".join(map(re.escape, _HINTS)))
_PLACED: Final = re.compile(r"\.[a-z]{1,6}:\d")

#: How many such lines are looked at, from the first on: all that a megabyte has, since a thousand warnings may come
#: before the error.
MAX_LOOKED: Final = 50_000

_MARKS: Final = tuple(re.compile("|".join(marks)) for marks in MARKS)


class Cause(NamedTuple):
    """What a step's output says of its failure: in which of its lines, and what that means, if it is known."""

    at: int | None  # its place among the lines; None: none of them says anything
    explanation: Explanation | None


def find_cause(
    texts: Sequence[str],
    exit_code: int | None,
    known: Container[str] = frozenset(),
    said: Mapping[int, str] = MappingProxyType({}),
) -> Cause:
    """
    Return the cause of a failure, by the step's lines without escape sequences, or by the last of them.

    :param known: the `templates` of what the same step has printed in a success
    :param said: which of the lines stand for errors that the build itself said (annotations), with their messages
    """
    explained = explain_at(last_output(texts), exit_code)
    if explained is not None and explained.behind is not None:
        return Cause(len(texts) - 1 - explained.behind, explained.explanation)
    best = _best(texts, known, said)
    if best is None and known:
        best = _best(texts, frozenset(), said)
    if best is None:
        best = next((at for at in range(len(texts) - 1, -1, -1) if _says_something(texts[at])), None)
    return Cause(best, None if explained is None else explained.explanation)


def _best(texts: Sequence[str], known: Container[str], said: Mapping[int, str]) -> int | None:
    """Return the first line of the best rank that isn't known."""
    best: tuple[int, int] | None = None
    looked = 0
    for at, text in enumerate(texts):
        line = text[:MAX_LINE]
        lower = line.lower()
        if at not in said and not _HINT.search(lower) and not _PLACED.search(lower):
            continue
        looked += 1
        if looked > MAX_LOOKED:
            break
        ranked = (0, _source(texts, at, said[at])) if at in said else _ranked(texts, at, line)
        if ranked is None or (best is not None and ranked[0] >= best[0]) or template(texts[ranked[1]]) in known:
            continue
        best = ranked
        if best[0] == 0:
            break
    return None if best is None else best[1]


def _ranked(texts: Sequence[str], at: int, line: str) -> tuple[int, int] | None:
    """Return how surely a line says what is wrong (0 is the best), and which line it is: it may be one below it."""
    bare = line[_end(line) :]
    if _EMPTY.match(line) or _EMPTY.match(bare):
        return None
    if _HEADING.match(bare):
        below = _below(texts, at)
        return None if below is None else (0, below)
    rank = next((rank for rank, mark in enumerate(_MARKS) if mark.match(bare)), None)
    return None if rank is None else (rank, at)


def _source(texts: Sequence[str], at: int, message: str) -> int:
    """Return the line of which an annotation was made: one shortly before it with its message, or else itself."""
    begins = message[:_QUOTED]
    return next((above for above in range(at - 1, max(-1, at - 1 - _ABOVE), -1) if begins in texts[above]), at)


def _below(texts: Sequence[str], heading: int) -> int | None:
    """Return the line that a heading is of."""
    for at in range(heading + 1, min(heading + 1 + _BELOW, len(texts))):
        line = texts[at][:MAX_LINE]
        bare = line[_end(line) :]
        if _says_something(line) and not _HEADING.match(bare) and not _PLACE.match(bare):
            return at
    return None


def _says_something(line: str) -> bool:
    return not _EMPTY.match(line[:MAX_LINE])


def _end(line: str) -> int:
    """Return where a line begins behind what a task runner puts in front of it."""
    found = _PREFIX.match(line)
    return 0 if found is None else found.end()


def new_lines(texts: Sequence[str], known: Container[str], most: int) -> tuple[list[int], int]:
    """
    Return the lines that a success never printed: the first ``most``, one of each template, and how many there are.
    What is only part of a trace isn't among them.
    """
    seen: set[str] = set()
    found: list[int] = []
    for at, text in enumerate(texts):
        shape = template(text)
        if not shape or shape in known or shape in seen or not _says_something(text):
            continue
        seen.add(shape)
        if len(found) < most:
            found.append(at)
    return found, len(seen)
