import io
import sys
from collections.abc import Callable, Iterator

import pytest

from app.cli import main
from app.core.config import get_settings

Stockroom = Callable[..., tuple[int, str, str]]


@pytest.fixture
def stockroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Stockroom]:
    """The command, run in this process: takes arguments, standard input and environment; gives exit code, standard output and standard error."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> tuple[int, str, str]:
        get_settings.cache_clear()
        monkeypatch.setattr(sys, "argv", ["stockroom", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return code or 0, out, err

    yield run
    get_settings.cache_clear()
