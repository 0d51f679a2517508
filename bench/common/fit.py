"""
What something costs apiece, from several measurements of what it cost in all: least squares, none below 0. Without a
dependency, for some ten unknowns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def fit(totals: Sequence[float], counts: Sequence[Mapping[str, float]], terms: Sequence[str]) -> dict[str, float]:
    """
    The prices that explain the totals best: ``totals[i]`` is about the sum of ``prices[term] * counts[i][term]``.

    What is made small is the relative error, so that cheap measurements count as much as dear ones. A price that would
    be negative is 0, and the others are sought again.
    """
    left = list(terms)
    while left:
        rows = [[found.get(term, 0.0) / total for term in left] for total, found in zip(totals, counts, strict=True)]
        prices = _solve(
            [[sum(row[i] * row[j] for row in rows) for j in range(len(left))] for i in range(len(left))],
            [sum(row[i] for row in rows) for i in range(len(left))],
        )
        worst = min(range(len(left)), key=lambda index: prices[index])
        if prices[worst] >= 0:
            return {term: dict(zip(left, prices, strict=True)).get(term, 0.0) for term in terms}
        del left[worst]
    return dict.fromkeys(terms, 0.0)


def explained(counts: Mapping[str, float], prices: Mapping[str, float]) -> float:
    """Return what a measurement with these counts should have cost in all."""
    return sum(price * counts.get(term, 0.0) for term, price in prices.items())


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Gauss, the largest pivot first; an unknown that nothing tells anything about is 0."""
    size = len(right)
    # Counts differ by powers of ten: made alike first, so that "nothing" is the same small number for all.
    scale = [matrix[i][i] ** 0.5 or 1.0 for i in range(size)]
    rows = [[*(matrix[i][j] / scale[i] / scale[j] for j in range(size)), right[i] / scale[i]] for i in range(size)]
    pivots: list[int] = []
    for column in range(size):
        free = [row for row in range(size) if row not in pivots]
        pivot = max(free, key=lambda row: abs(rows[row][column]))
        if abs(rows[pivot][column]) < 1e-9:
            pivots.append(-1)
            continue
        pivots.append(pivot)
        for row in range(size):
            if row != pivot and rows[row][column]:
                factor = rows[row][column] / rows[pivot][column]
                rows[row] = [mine - factor * its for mine, its in zip(rows[row], rows[pivot], strict=True)]
    return [
        0.0 if pivot < 0 else rows[pivot][size] / rows[pivot][column] / scale[column]
        for column, pivot in enumerate(pivots)
    ]
