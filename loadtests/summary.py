"""What was found, in words."""

from collections.abc import Sequence

from loadtests.knee import Knee
from loadtests.markup import ms
from loadtests.results import Result


def summary(results: Sequence[Result]) -> list[str]:
    """A line about each result, for the report and for who waits."""
    lines = []
    for result in results:
        if result.command == "run":
            step = result.steps[0].step
            lines.append(
                f"Run, {result.scenario}: {step.rate:.0f} operations a second were offered for {step.seconds:.0f} s; p99 {ms(step.total.p99_ms)},"
                f" {step.total.refused_rate:.2%} refused, {step.total.error_rate:.2%} errors. Nearest to its limit: {result.binding}."
            )
        if result.knee is not None:
            lines.append(f"Knee, {result.scenario}: {knee_in_words(result.knee)}{_cost_in_words(result)}")
        if result.sweep is not None:
            lines.append(f"Sizing: {result.sweep.verdict}." + (" That was not asked of so short a sweep." if result.is_sketch else ""))
    return lines


def knee_in_words(knee: Knee) -> str:
    """The knee, or that there is none, with what bound and what was predicted."""
    if not knee.rate:
        return f"no rate that was tried met the objectives. What bound: {knee.binding}."
    text = f"{knee.rate:.0f} operations a second is the highest rate that met every objective"
    if knee.first_failed is not None:
        text += f"; {knee.first_failed:.0f} did not ({', '.join(knee.failures)})"
    text += f". What bound there: {knee.binding}."
    if knee.prediction is not None:
        predicted = knee.prediction.rate
        text += f" Low load predicted {predicted:.0f}, {knee.off:+.0%}."
    return text


def _cost_in_words(result: Result) -> str:
    words = f" It took {result.took_seconds:.0f} s."
    if result.generator_share is not None:
        words = f" A request cost the generator {result.generator_share:.0%} of what it cost the workers." + words
    return words
