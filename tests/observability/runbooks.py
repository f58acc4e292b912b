"""The pages of `docs/runbooks`, read."""

import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "runbooks"
SECTIONS = ("Meaning", "Impact", "Diagnosis", "Mitigation")


def pages() -> dict[str, str]:
    """Texts by the alert's name."""
    return {file.stem: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.md") if file.stem != "README"}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Code of that language, and whose page it is on."""
    for name, text in pages().items():
        for block in re.findall(rf"^ *```{language}\n(.+?)^ *```", text, re.DOTALL | re.MULTILINE):
            yield name, block


def queries() -> Iterator[tuple[str, str]]:
    """Every query for Prometheus: a block may hold several, with an empty line between."""
    for name, block in blocks("promql"):
        for query in block.split("\n\n"):
            yield name, query.strip()
