"""The knee: the highest rate at which a scenario still meets its objectives, and what binds there."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from loadtests import capacity, usl
from loadtests.objectives import Objectives
from loadtests.steps import Step

FACTOR = 2.0
"""From one step to the next on the way up."""

PRECISION = 1.08
"""Bisection ends when the first fail is at most so many times the last pass."""

MOST_RATE = 20_000.0
"""Above it nothing is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knee:
    """What the search found; rates in operations a second.

    Attributes:
        rate: the highest that passed; 0 when none did.
        first_failed: the lowest above it that did not; None when none failed.
        failures: which objectives that one missed, or why it was void.
        binding: the resource that bound there, in words.
        prediction: from low load; None when that could not be measured.
        usl: the law fitted to the steps; None of too few.
        most: operations a second that the law allows at most; None without it, or without a bound.
    """

    rate: float
    first_failed: float | None
    failures: list[str]
    binding: str
    prediction: capacity.Prediction | None
    usl: usl.Usl | None
    most: float | None

    @property
    def off(self) -> float | None:
        """By how much the prediction differs from the rate, as a share of the rate; None without one of them."""
        return self.prediction.rate / self.rate - 1 if self.prediction is not None and self.rate else None


@dataclass(frozen=True, slots=True)
class Tried:
    """A step of the search, which objectives it missed, and a step at low load just before it, for the prediction."""

    step: Step
    failures: list[str]
    low: Step | None = None


def search(measure: Callable[[float], Tried], start: float, *, precision: float = PRECISION) -> Iterator[Tried]:
    """Try rates: upwards by `FACTOR` until one fails, then by bisection between the last pass and the first fail.

    A step that fails is tried a second time, and fails only if it does again: on a machine with other things to do, one hiccup is no knee.

    Args:
        measure: offers a rate for a while.
        start: the first rate.
        precision: the search ends when the first fail is at most so many times the last pass.
    """
    low, high = 0.0, math.inf
    rate = start
    while high / max(low, 1e-9) > precision and 1 <= rate <= MOST_RATE:
        tried = measure(rate)
        yield tried
        if tried.failures:
            tried = measure(rate)
            yield tried
        low, high = (low, rate) if tried.failures else (rate, high)
        rate = _next(low, high)


def found(tried: Sequence[Tried], calibration: Sequence[Step], limits: Objectives) -> Knee:
    """Sum a search up.

    Args:
        tried: every step.
        calibration: all steps at low load, for the prediction.
        limits: what they had to keep.
    """
    passed = {item.step.rate for item in tried if not item.failures}
    rate = max(passed, default=0.0)
    # Of a rate that was tried twice the second time counts.
    above = sorted((item for item in reversed(tried) if item.step.rate > rate), key=lambda item: item.step.rate)
    steps = [item.step for item in tried if not item.step.void]
    law = usl.fit([(step.mean_in_flight, step.served_per_second) for step in steps])
    per_operation = sum(step.total.requests for step in steps) / max(1, sum(step.rate * (step.seconds - 1) for step in steps))
    return Knee(
        rate=rate,
        first_failed=above[0].step.rate if above else None,
        failures=above[0].failures if above else [],
        binding=capacity.binding(above[0].step) if above else "none: no rate that was tried failed",
        prediction=capacity.predicted(calibration, _beside(tried, rate), spare_per_second=limits.spare_per_second),
        usl=law,
        most=law.most / per_operation if law and per_operation and math.isfinite(law.most) else None,
    )


def _beside(tried: Sequence[Tried], rate: float) -> list[Step]:
    """The steps at low load next to those that decided: the last that passed at the knee's rate, and the end of the search."""
    at_knee = [number for number, item in enumerate(tried) if item.step.rate == rate and not item.failures]
    decided = {*at_knee[-1:], len(tried) - 1}
    numbers = {number + distance for number in decided for distance in (-1, 0, 1, 2)}
    return [low for number, item in enumerate(tried) if number in numbers and (low := item.low)]


def _next(low: float, high: float) -> float:
    if math.isinf(high):
        return low * FACTOR
    if low == 0:
        return high / FACTOR
    return math.sqrt(low * high)
