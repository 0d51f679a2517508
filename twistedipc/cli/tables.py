"""How a table fits into a terminal: which of its columns are shown, and how wide. Pure; used by ``output``."""

from __future__ import annotations

from collections.abc import Sequence

#: Cells between two columns.
GAP = 2

#: A column isn't made narrower than that, unless there are no others to leave out. One that is wrapped needs more.
LEAST = 14
LEAST_WRAPPED = 24

#: So many columns at the left stay, whatever the width.
KEPT = 2


def fitted(
    widths: Sequence[int], room: int, *, drop: Sequence[int] = (), wrapped: int | None = None
) -> list[tuple[int, int]]:
    """
    Return the columns that fit, as pairs of an index and a width.

    :param widths: what each column needs; 0 if there is nothing in it, which isn't shown
    :param room: cells of the terminal
    :param drop: columns that are left out before others, the first of them first; the others go from the right
    :param wrapped: the column whose texts may have several lines
    """
    least = [min(width, LEAST_WRAPPED if index == wrapped else LEAST) for index, width in enumerate(widths)]
    shown = [index for index, width in enumerate(widths) if width]
    rest = [index for index in reversed(shown[KEPT:]) if index not in drop and index != wrapped]
    for index in [*drop, *rest]:
        if _total([least[each] for each in shown]) <= room:
            break
        if index in shown:
            shown.remove(index)
    spare = room - _total([least[each] for each in shown])
    given = {index: least[index] for index in shown}
    # Those that need little get all that they need, so that what is left is for those that need much.
    for place, index in enumerate(sorted(shown, key=lambda each: widths[each] - least[each])):
        more = max(0, min(widths[index] - least[index], spare // (len(shown) - place)))
        given[index] += more
        spare -= more
    while spare < 0 and max(given.values()) > 1:
        widest = max(given, key=lambda each: given[each])
        given[widest] -= 1
        spare += 1
    return [(index, given[index]) for index in shown]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * max(len(widths) - 1, 0)
