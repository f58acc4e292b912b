"""docs/capacity.md: its examples are what the command prints."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

Stockroom = Callable[..., tuple[int, str, str]]

PAGE = (Path(__file__).parents[2] / "docs/capacity.md").read_text(encoding="utf-8")
# A command, on as many lines as end with a backslash, and what it prints.
EXAMPLES = re.findall(r"```console\n\$ stockroom (capacity plan --(?!help)(?:[^\n]*\\\n)*[^\n]*)\n([^`]+)```", PAGE)


def test_there_are_a_laptop_a_small_pod_and_twenty_pods_without_and_with_pgbouncer() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize(("command", "shown"), EXAMPLES)
def test_an_example_is_what_the_command_prints(stockroom: Stockroom, command: str, shown: str) -> None:
    code, out, err = stockroom(*shlex.split(command.replace("\\\n", "")))
    assert (out, err) == (shown, "")
    assert code == ("REFUSED" in shown)
