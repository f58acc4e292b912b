"""The physical lines of a file, in bounded memory."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import BinaryIO, Final

MAX_LINE_BYTES: Final = 2**20
"""The longest line that is read; a longer one is an error of its own, whatever its length."""


def bounded_lines(stream: BinaryIO) -> Iterator[bytes | None]:
    r"""Read a stream line by line, never holding more than one line.

    Returns:
        Each line with its `\n` where it has one, without a leading byte order mark; `None` in place of a line longer than `MAX_LINE_BYTES`.
    """
    mark = BOM_UTF8
    while line := stream.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield None
        else:
            yield line.removeprefix(mark)
        mark = b""
