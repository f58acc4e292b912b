"""When requests come: made beforehand, so that nothing a server does can hold an arrival back (an open model)."""

import random
from typing import Literal

Arrivals = Literal["poisson", "constant", "bursts"]

BURST = 20
"""Arrivals of a burst."""


def schedule(kind: Arrivals, *, rate: float, seconds: float, seed: int) -> list[float]:
    """The moments of a step's arrivals, in seconds from its beginning, ascending.

    Args:
        kind: `poisson` for independent clients, whose gaps are exponential; `constant` for equal gaps; `bursts` for `BURST` at once,
            at equal gaps: few enough on average to be a low load, and for a moment as many as under a high one.
        rate: arrivals a second.
        seconds: how long the step lasts.
        seed: the same seed makes the same moments.

    Raises:
        ValueError: rate or seconds are not above 0.
    """
    if rate <= 0 or seconds <= 0:
        raise ValueError(f"rate ({rate:g}) and seconds ({seconds:g}) must be above 0")
    if kind == "constant":
        return [number / rate for number in range(round(rate * seconds))]
    if kind == "bursts":
        return [number // BURST * BURST / rate for number in range(round(rate * seconds))]
    chance = random.Random(seed)
    moments, at = [], chance.expovariate(rate)
    while at < seconds:
        moments.append(at)
        at += chance.expovariate(rate)
    return moments
