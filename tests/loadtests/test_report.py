"""The report: everything in one file, the verdict and its reasons on top; JSON that becomes the same result again."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests import results
from loadtests.consistency import Check
from loadtests.deployment import Sizing
from loadtests.knee import Tried, found
from loadtests.objectives import Objectives, check
from loadtests.report import page
from loadtests.results import Judged, Result, ResultError
from loadtests.sweep import Loads, Pair, judged
from tests.loadtests.made import a_step, calibration

LIMITS = Objectives(p99_ms=100, error_rate=0, pool_wait_p95_ms=50, connections="plan")


def a_run(**fields: object) -> Result:
    step = a_step(p99_ms=fields.pop("p99_ms", 20))  # type: ignore[arg-type] # a number
    judged_step = Judged(step, check(step, LIMITS))
    return Result(command="run", description="a <pod>", scenario="mixed", objectives=LIMITS, steps=[judged_step], **fields)  # type: ignore[arg-type]


def a_knee() -> Result:
    steps = [a_step(rate, served=min(rate, 400), p99_ms=20 if rate <= 400 else 900) for rate in (100, 200, 400, 800)]
    tried = [Tried(step, [] if step.rate <= 400 else ["p99_ms: 900, over 100"]) for step in steps]
    low = calibration(500, LIMITS)
    kept = [Judged(step, check(step, LIMITS)) for step in steps]
    return Result(
        command="knee",
        description="a pod",
        scenario="mixed",
        objectives=LIMITS,
        steps=kept,
        calibration=low,
        knee=found(tried, low, LIMITS),
    )


def a_sweep() -> Result:
    derived = Sizing(1, 5)
    loads = Loads(a_step(900, served=500, refused=2000), a_step(300))
    found = [Pair(point, loads, loads) for point in (Sizing(2, 5), Sizing(1, 2)) for _ in range(6)]
    return Result(
        command="sweep",
        description="a pod",
        scenario="mixed",
        objectives=LIMITS,
        steps=[],
        sweep=judged(found, [Sizing(2, 5), Sizing(1, 2)], derived, LIMITS, at_once=True),
    )


@pytest.mark.parametrize("result", [a_run(), a_knee(), a_sweep()], ids=lambda result: result.command)
def test_a_result_is_the_same_after_a_round_trip_through_json(result: Result, tmp_path: Path) -> None:
    results.write(result, tmp_path / "result.json")
    assert results.read([tmp_path / "result.json"]) == [result]


def test_the_page_needs_nothing_from_elsewhere_and_shows_every_plot() -> None:
    text = page([a_knee(), a_sweep(), a_run()])
    assert not re.search(r"(src|href)=|url\(|@import|<script|<link", text)
    titles = (
        "Latency against offered rate",
        "Throughput and the knee",
        "Waiting for a connection",
        "Connections against the plan",
        "derived by the plan",
    )
    assert all(title in text for title in titles)
    assert "400 operations a second is the highest rate that met every objective" in text
    assert "predicted 500, +25%" in text


def test_maps_of_a_sweep_show_each_point_beside_the_derived_one_at_the_same_moment() -> None:
    derived, other = Sizing(1, 5), Sizing(2, 5)
    pairs = [
        Pair(
            other,
            Loads(a_step(900, served=500 * pace, refused=2000), a_step(300, p99_ms=20 * pace)),
            Loads(a_step(900, served=400 * pace, refused=2500), a_step(300, p99_ms=25 * pace)),
        )
        for pace in (0.5, 0.8, 0.9, 1, 1.1, 2)
    ]
    text = page([replace(a_sweep(), sweep=judged(pairs, [other], derived, LIMITS, at_once=True))])
    for title, share in (("Served under overload, %", 80), ("p99 below the knee, %", 125)):
        drawn = text[text.index(title) :].partition("</svg>")[0]
        assert re.findall(r">(\d+)</text>", drawn)[:2] == ["100", str(share)]


@pytest.mark.parametrize(("at_once", "says"), [(True, "loaded at the same moment"), (False, "loaded one after the other")])
def test_the_page_says_whether_the_two_of_a_pair_were_loaded_at_the_same_moment(at_once: bool, says: str) -> None:
    sweep = a_sweep().sweep
    assert sweep is not None
    assert says in page([replace(a_sweep(), sweep=replace(sweep, at_once=at_once))])


def test_who_passes_is_told_so_and_who_fails_why() -> None:
    assert "It holds" in page([a_run()])
    failed = page(
        [
            a_run(
                p99_ms=300,
                sizing_faults=["the pools are too small: 1 connection a worker"],
                checks=[Check("no level is oversold", ["A: 2 of 1"], 1)],
            )
        ]
    )
    assert "It does not hold" in failed
    for reason in ("p99_ms: 300, over 100", "the sizing is wrong: the pools are too small", "no level is oversold: A: 2 of 1"):
        assert reason in failed


def test_what_could_not_be_told_is_neither_passed_nor_failed() -> None:
    step = a_step(void="only 10 of 100 arrivals went out")
    text = page(
        [Result(command="run", description="a pod", scenario="mixed", objectives=LIMITS, steps=[Judged(step, check(step, LIMITS))])]
    )
    assert "It cannot be told" in text
    assert "It holds" not in text
    assert "It does not hold" not in text


def test_a_page_of_which_nothing_was_served_still_has_its_tables() -> None:
    step = a_step(p99_ms=None, served=0)
    text = page([replace(a_knee(), steps=[Judged(step, check(step, LIMITS))], knee=found([Tried(step, ["p99_ms: over"])], [], LIMITS))])
    assert "no rate that was tried met the objectives" in text


def test_what_others_wrote_cannot_become_markup() -> None:
    assert "a &lt;pod&gt;" in page([a_run()])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "Field required"),
        (json.dumps({"command": "run", "description": "", "scenario": "mixed", "objectives": {}, "steps": []}), "nothing of a run"),
        (json.dumps({"command": "knee", "description": "", "scenario": "mixed", "objectives": {}, "steps": []}), "nothing of a knee"),
        (json.dumps({"command": "sweep", "description": "", "scenario": "mixed", "objectives": {}, "steps": []}), "nothing of a sweep"),
    ],
)
def test_a_file_that_is_no_result_is_named(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ResultError, match=rf"other\.json is no result of a load test.*{says}"):
        results.read([tmp_path / "other.json"])
