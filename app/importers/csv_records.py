"""The records of a CSV file, in bounded memory, each with the line it starts on."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from app.importers.lines import bounded_lines

MAX_RECORD_BYTES: Final = 2**20
"""The longest record, the line breaks inside its quotes included."""

# Global to the process and set once, here: the record's limit is the one that counts, and no field is longer than its record.
csv.field_size_limit(MAX_RECORD_BYTES)


@dataclass(frozen=True, slots=True)
class Record:
    """One record of the file.

    Attributes:
        line: the physical line it starts on, from 1.
        cells: its cells; empty or doubtful when there is a fault.
        size_bytes: what it takes in the file.
        fault: why it cannot be used, for the one who made the file.
    """

    line: int
    cells: list[str]
    size_bytes: int
    fault: str | None = None


def read_records(stream: BinaryIO) -> Iterator[Record]:
    """Read comma-separated records (RFC 4180, with any line ends), skipping those whose cells are all empty.

    After a record that cannot be split into cells, reading goes on at the next line. Never raises over what the bytes are.

    Args:
        stream: the file's bytes, decompressed; UTF-8.
    """
    feed = _Feed(stream)
    reader = csv.reader(feed, strict=True)
    while True:
        line, feed.size_bytes, feed.fault = feed.line + 1, 0, None
        cells: list[str] = []
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            feed.fault = f"Lines {line} to {feed.line} cannot be read ({error}). Close every quote, and double the quotes inside quotes."
        except _RecordTooLongError:
            feed.fault = f"Lines {line} to {feed.line} are one row of more than {MAX_RECORD_BYTES} bytes. Perhaps a quote is never closed."
        if feed.fault or any(cells):
            yield Record(line, cells, feed.size_bytes, feed.fault)


class _RecordTooLongError(Exception):
    pass


class _Feed:
    """Lines for `csv.reader`: counted, decoded, and never more than a record's worth."""

    def __init__(self, stream: BinaryIO) -> None:
        self._lines = bounded_lines(stream)
        self.line = 0
        self.size_bytes = 0
        self.fault: str | None = None

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        raw = next(self._lines)
        self.line += 1
        if raw is None or self.size_bytes + len(raw) > MAX_RECORD_BYTES:
            raise _RecordTooLongError
        self.size_bytes += len(raw)
        if b"\0" in raw:
            self.fault = "The row holds the character U+0000, which cannot be stored. Remove it."
        try:
            return raw.decode()
        except UnicodeDecodeError:
            # Replacing what is broken keeps the quotes, and with them the records that follow, in step.
            self.fault = "The row is not UTF-8. Save the file as CSV in UTF-8."
            return raw.decode(errors="replace")
