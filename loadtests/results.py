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

_MOST_PROBLEMS = 10


class ResultError(Exception):
    """A file is no result."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A step, and how it stands to the objectives."""

    step: Step
    findings: list[Finding]

    @property
    def failures(self) -> list[str]:
        """Why it does not pass; empty when it does."""
        return ([f"void: {self.step.void}"] if self.step.void else []) + [str(finding) for finding in self.findings if finding.is_missed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one command found.

    Attributes:
        command: which.
        made_at: when it ended, in UTC.
        description: what was measured, and what ran where.
        scenario: its name.
        objectives: what a step had to keep.
        steps: in the order in which they were measured.
        calibration: steps at low load, for the prediction.
        knee: of `knee`.
        sweep: of `sweep`.
        sizing_faults: what is wrong with workers and pools.
        binding: of `run`, what was nearest to its limit.
        checks: whether the books agree.
    """

    command: Literal["run", "knee", "sweep"]
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    description: str
    scenario: str
    objectives: Objectives
    steps: list[Judged]
    calibration: list[Step] = field(default_factory=list)
    knee: Knee | None = None
    sweep: Swept | None = None
    sizing_faults: list[str] = field(default_factory=list)
    binding: str = ""
    checks: list[Check] = field(default_factory=list)

    @property
    def is_void(self) -> bool:
        """Whether nothing could be told."""
        swept_in_vain = self.sweep is not None and self.sweep.is_void
        return swept_in_vain or (self.command == "run" and any(judged.step.void for judged in self.steps))

    @property
    def failures(self) -> list[str]:
        """Why the command fails; empty when it passes."""
        found = [f"the sizing is wrong: {fault}" for fault in self.sizing_faults]
        if self.command == "run":
            found += [failure for judged in self.steps for failure in judged.failures]
        if self.knee is not None and not self.knee.rate:
            found.append("no rate that was tried met the objectives")
        if self.sweep is not None and self.sweep.is_void:
            found.append(f"the sweep tells nothing: the derived point alone differed by {self.sweep.spread:.0%} from round to round")
        elif self.sweep is not None and not self.sweep.holds:
            found.append(self.sweep.verdict)
        for check in self.checks:
            found += [f"{check.name}: {problem}" for problem in check.problems[:_MOST_PROBLEMS]]
        return found


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
        except (OSError, ValidationError) as error:
            raise ResultError(f"{file} is no result of a load test: {error}") from None
    return found
