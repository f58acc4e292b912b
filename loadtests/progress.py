"""What somebody sees who waits: a bar, and a line for every step."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests.measuring import Bench
from loadtests.results import Judged
from loadtests.steps import Step


class Watched:
    """Measures steps in sight.

    Args:
        console: where to.
        steps: how many there will be, as far as is known.
    """

    def __init__(self, console: Console, steps: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f} of some {task.total:.0f} steps"))
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
        self._task = self._progress.add_task("", total=steps)

    def __enter__(self) -> Self:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        """Take it away."""
        self._progress.stop()

    def step(self, bench: Bench, rate: float, seconds: float, seed: int, note: str = "") -> Step:
        """Measure one."""
        self._begin(bench, rate, seconds, note)
        step = bench.measure(rate, seconds, seed)
        self._progress.advance(self._task)
        return step

    def pair(self, benches: tuple[Bench, Bench], rate: float, seconds: float, seed: int, note: str, *, at_once: bool) -> tuple[Step, Step]:
        """Measure two, at the same moment or one after the other."""
        first, second = benches
        self._begin(first, rate, seconds, note)
        steps = (
            first.measure_beside(second, rate, seconds, seed)
            if at_once
            else (first.measure(rate, seconds, seed), second.measure(rate, seconds, seed))
        )
        self._progress.advance(self._task)
        return steps

    def say(self, judged: Judged) -> None:
        """A line about a step."""
        step = judged.step
        p99 = "nothing served" if step.total.p99_ms is None else f"p99 {step.total.p99_ms:6.1f} ms"
        missed = f"  FAIL {'; '.join(judged.failures)}" if judged.failures else "  ok"
        served = f"{step.served_per_second:6.0f} served/s"
        self._progress.console.print(
            f"{step.rate:6.0f} offered/s {served}  {p99}  refused {step.total.refused_rate:6.2%}{missed}", markup=False
        )

    def _begin(self, bench: Bench, rate: float, seconds: float, note: str) -> None:
        self._progress.update(self._task, description=f"{bench.scenario.name} {note} at {rate:.0f} a second, {seconds:.0f} s")
