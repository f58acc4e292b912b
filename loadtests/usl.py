"""The Universal Scalability Law (N. Gunther, "Guerrilla Capacity Planning"): throughput by concurrency, with contention and crosstalk."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usl:
    """`X(n) = speed * n / (1 + contention * (n - 1) + crosstalk * n * (n - 1))`.

    Attributes:
        speed: throughput of one request at a time, a second.
        contention: the share of work that waits its turn.
        crosstalk: what each pair of concurrent requests costs beyond that.
        error: root mean square of the relative error, of the fitted points.
    """

    speed: float
    contention: float
    crosstalk: float
    error: float

    def throughput(self, concurrency: float) -> float:
        """Requests a second with so many at once."""
        return _throughput(self.speed, self.contention, self.crosstalk, concurrency)

    @property
    def most(self) -> float:
        """The most throughput there can be: at the curve's top, or what it comes near to where it has none."""
        if self.crosstalk > 0:
            return self.throughput(max(1.0, math.sqrt(max(0.0, 1 - self.contention) / self.crosstalk)))
        return self.speed / self.contention if self.contention > 0 else math.inf


def fit(points: Sequence[tuple[float, float]]) -> Usl | None:
    """Fit the law to (concurrency, throughput) points; None of fewer than three.

    Divided by throughput it is linear, `n / X = a + b (n - 1) + c n (n - 1)`, so relative errors are least when each row is weighed by `X / n`.
    Coefficients that would be negative mean nothing and are left out.
    """
    points = [(n, x) for n, x in points if n > 0 and x > 0]
    if len(points) < 3:
        return None
    terms = [0, 1, 2]
    while True:
        solved = _least_squares(points, terms)
        if solved is not None and all(value >= 0 for value in solved):
            break
        # Without the term that is most negative; the constant is always needed.
        terms.pop(_worst(solved, len(terms)))
        if len(terms) == 1:
            solved = _least_squares(points, terms) or [points[0][0] / points[0][1]]
            break
    a, b, c = (dict(zip(terms, solved, strict=True)).get(term, 0.0) for term in range(3))
    speed, contention, crosstalk = 1 / a, b / a, c / a
    errors = [_throughput(speed, contention, crosstalk, n) / x - 1 for n, x in points]
    return Usl(speed, contention, crosstalk, math.sqrt(sum(error**2 for error in errors) / len(errors)))


def _worst(solved: Sequence[float] | None, terms: int) -> int:
    return terms - 1 if solved is None else min(range(1, terms), key=lambda index: solved[index])


def _throughput(speed: float, contention: float, crosstalk: float, n: float) -> float:
    return speed * n / (1 + contention * (n - 1) + crosstalk * n * (n - 1))


def _least_squares(points: Sequence[tuple[float, float]], terms: Sequence[int]) -> list[float] | None:
    rows = [[(1.0, n - 1, n * (n - 1))[term] * x / n for term in terms] for n, x in points]
    normal = [[sum(row[i] * row[j] for row in rows) for j in range(len(terms))] for i in range(len(terms))]
    return _solve(normal, [sum(row[i] for row in rows) for i in range(len(terms))])


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Gaussian elimination with pivoting; None of a singular matrix."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda index: abs(rows[index][column]))
        if abs(rows[pivot][column]) < 1e-12 * max(1.0, abs(rows[0][0])):
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for index in range(column + 1, size):
            factor = rows[index][column] / rows[column][column]
            rows[index] = [value - factor * above for value, above in zip(rows[index], rows[column], strict=True)]
    solved = [0.0] * size
    for index in reversed(range(size)):
        known = sum(rows[index][later] * solved[later] for later in range(index + 1, size))
        solved[index] = (rows[index][size] - known) / rows[index][index]
    return solved
