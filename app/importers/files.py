"""Files to import: plain or compressed, with a measure of progress."""

import gzip
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class ImportFile:
    """A file that is being imported.

    Attributes:
        stream: its bytes, decompressed while they are read.
        size_bytes: the size of the file itself.
    """

    stream: "io.BufferedReader[Any]"
    size_bytes: int
    _file: "io.BufferedReader[Any]"

    def consumed_bytes(self) -> int:
        """How much of the file itself, of `size_bytes`, has been read; one system call."""
        return self._file.tell()


@contextmanager
def open_import(path: Path) -> Iterator[ImportFile]:
    """Open a file to import, decompressing it when it starts with gzip's magic bytes (RFC 1952), whatever its name.

    It is only ever streamed, so what a compressed file would grow to does not matter. Reading a damaged one raises `OSError`, `EOFError` or
    `zlib.error`, which `app.importers.parse` makes a `RowError` of.

    Raises:
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        compressed = file.peek().startswith(_GZIP_MAGIC)
        stream = io.BufferedReader(gzip.GzipFile(fileobj=file), _BUFFER_BYTES) if compressed else file
        yield ImportFile(stream, os.fstat(file.fileno()).st_size, file)


_GZIP_MAGIC: Final = b"\x1f\x8b"

# Larger than the default of 8 KiB: each fill is a call into Python.
_BUFFER_BYTES: Final = 128 * 1024
