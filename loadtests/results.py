"""What a command found, as it is kept in JSON and shown in the report."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from loadtests.consistency import Check
from loadtests.knee import Knee
from loadtests.objectives import Finding, Objectives
from loadtests.steps import Step
from loadtests.sweep import Swept

MOST_OFF = 0.2
"""By so much may the capacity that low load predicts differ from the knee, as a share of the knee."""

MOST_GENERATOR_SHARE = 0.5
"""Of the workers' CPU a request, so much may the generator's be."""

MOST_SECONDS = 300.0
"""For finding a knee with steps of at most `STEP_SECONDS`; who wants longer ones may wait longer."""

STEP_SECONDS = 8.0

_MOST_PROBLEMS = 10


class ResultError(Exception):
    """A file is no result."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A step, and how it stands to the objectives."""

    step: Step
    findings: list[Finding]

    @property
    def missed(self) -> list[str]:
        """Objectives that were surely missed; a step that is void proves nothing."""
        return [] if self.step.void else [str(finding) for finding in self.findings if finding.is_missed]

    @property
    def untold(self) -> list[str]:
        """Why it cannot be told whether the objectives are met."""
        if self.step.void:
            return [f"void: {self.step.void}"]
        return [str(finding) for finding in self.findings if not finding.is_measured]

    @property
    def failures(self) -> list[str]:
        """Why it does not pass; empty when it does."""
        return self.untold + self.missed


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one command found.

    Attributes:
        command: which.
        made_at: when it ended, in UTC.
        took_seconds: for all steps; of `knee` without the look at the books.
        description: what was measured, and what ran where.
        scenario: its name.
        objectives: what a step had to keep.
        steps: in the order in which they were measured.
        calibration: steps at low load, for the prediction.
        knee: of `knee`.
        cut_short: why the search for the knee ended before its time; empty when it did not.
        sweep: of `sweep`.
        is_sketch: whether it was too short to prove that the sizing is right, or that low load predicts the knee: that is not asked of it.
        sizing_faults: what is wrong with workers and pools.
        binding: of `run`, what was nearest to its limit.
        checks: whether the books agree.
    """

    command: Literal["run", "knee", "sweep"]
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    took_seconds: float = 0.0
    description: str
    scenario: str
    objectives: Objectives
    steps: list[Judged]
    calibration: list[Step] = field(default_factory=list)
    knee: Knee | None = None
    cut_short: str = ""
    sweep: Swept | None = None
    is_sketch: bool = False
    sizing_faults: list[str] = field(default_factory=list)
    binding: str = ""
    checks: list[Check] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse what no command leaves."""
        if (self.command == "run" and not self.steps) or (self.knee is not None) != (self.command == "knee"):
            raise ValueError(f"it has nothing of a {self.command}")
        if (self.sweep is not None) != (self.command == "sweep"):
            raise ValueError(f"it has nothing of a {self.command}")

    @property
    def failures(self) -> list[str]:
        """What surely does not hold."""
        found = [f"{check.name}: {problem}" for check in self.checks for problem in check.problems[:_MOST_PROBLEMS]]
        found += [f"the sizing is wrong: {fault}" for fault in self.sizing_faults]
        if self.command == "run":
            found += [missed for judged in self.steps for missed in judged.missed]
        if self.knee is not None:
            found += self._knee_failures(self.knee)
        if self.sweep is not None and self.sweep.outcome == "refuted":
            found.append(self.sweep.verdict)
        return found

    @property
    def untold(self) -> list[str]:
        """What could not be told, with the reason."""
        found = [f"{check.name}: {reason}" for check in self.checks for reason in check.untold[:_MOST_PROBLEMS]]
        if self.sweep is None and not any(judged.step.server for judged in self.steps):
            found.append("whether the sizes are right cannot be told: let --metrics name where every pod's /metrics answers")
        if self.cut_short:
            found.append(f"the search ended early: {self.cut_short}")
        if self.command == "run":
            found += [untold for judged in self.steps for untold in judged.untold]
        if self.knee is not None:
            found += self._knee_untold(self.knee)
        if self.sweep is not None and self.sweep.outcome == "not shown" and not self.is_sketch:
            found.append(self.sweep.verdict)
        return found

    @property
    def generator_share(self) -> float | None:
        """What a request costs the generator, as a share of what it costs the workers, at the knee; None where that was not measured."""
        shares = [
            judged.step.generator_cpu_per_request_ms / judged.step.server.cpu_per_request_ms
            for judged in self.steps
            if self.knee is not None and judged.step.rate == self.knee.rate and judged.step.server and judged.step.server.cpu_per_request_ms
        ]
        return shares[-1] if shares else None

    def _knee_failures(self, knee: Knee) -> list[str]:
        found: list[str] = []
        if self.cut_short:
            return found
        if not knee.rate and not self._is_open(knee):
            found.append("no rate that was tried met the objectives")
        if knee.off is not None and abs(knee.off) > MOST_OFF and not self._is_open(knee) and not self.is_sketch:
            found.append(f"what low load predicted is {knee.off:+.0%} off the knee's rate, more than {MOST_OFF:.0%}")
        if self.took_seconds > MOST_SECONDS and all(judged.step.seconds <= STEP_SECONDS for judged in self.steps):
            found.append(f"finding the knee took {self.took_seconds:.0f} s, at most {MOST_SECONDS:.0f} are allowed")
        return found

    def _knee_untold(self, knee: Knee) -> list[str]:
        found = []
        if self._is_open(knee):
            reason = "; ".join(knee.failures) or "no rate that was tried failed"
            above = f"the knee lies above {knee.rate:.0f} operations a second, and where" if knee.rate else "whether there is a knee"
            found.append(f"{above} cannot be told: {reason}")
        elif knee.rate and knee.prediction is None:
            found.append(
                "low load predicts nothing: fewer than two of its steps could be used, and were below half of the CPU limit;"
                " where they were not, begin lower:  --start-rate RATE"
            )
        if knee.rate and self.generator_share is None:
            found.append("what the generator costs beside the workers cannot be told: no /metrics answered at the knee")
        if self.generator_share is not None and self.generator_share > MOST_GENERATOR_SHARE:
            found.append(
                f"the generator costs {self.generator_share:.0%} of the workers' CPU a request, more than {MOST_GENERATOR_SHARE:.0%}:"
                " it is measured along with them"
            )
        return found

    def _is_open(self, knee: Knee) -> bool:
        """Whether the search ended because of the generator or its own end, and not because the deployment missed an objective."""
        above = [judged for judged in self.steps if judged.step.rate == knee.first_failed]
        return not above or not above[-1].missed


_RESULT: TypeAdapter[Result] = TypeAdapter(Result)


def write(result: Result, file: Path) -> None:
    """Keep a result as JSON."""
    file.write_bytes(_RESULT.dump_json(result, indent=2) + b"\n")


def read(files: Sequence[Path]) -> list[Result]:
    """Results as they were kept.

    Raises:
        ResultError: a file is missing, or no result.
    """
    found = []
    for file in files:
        try:
            found.append(_RESULT.validate_json(file.read_bytes()))
        except OSError as error:
            raise ResultError(f"cannot read {file}: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ResultError(f"{file} is no result of a load test of this version: {where}{': ' if where else ''}{first['msg']}") from None
    return found
