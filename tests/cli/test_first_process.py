"""The command as the first process of a container: there the kernel ends nobody by a signal that has no handler."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

_IN_A_CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child")
_CAN_UNSHARE = sys.platform == "linux" and subprocess.run([*_IN_A_CONTAINER, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _CAN_UNSHARE, reason="a namespace of process ids cannot be made here")
def test_a_command_that_waits_for_a_silent_database_ends_at_sigterm() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        environment = {**os.environ, "APP_DATABASE_URL": f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/nothing"}
        with subprocess.Popen([*_IN_A_CONTAINER, sys.executable, "-m", "app.cli", "migrate"], env=environment) as container:
            try:
                with silent.accept()[0]:
                    first_process = int(Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text())
                    os.kill(first_process, signal.SIGTERM)
                    assert container.wait(10) == 128 + signal.SIGTERM
            finally:
                container.kill()
