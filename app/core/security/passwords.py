"""Passwords: hashed with Argon2id beside the event loop, a bounded number at once."""

import asyncio
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import ParamSpec, TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.core.problems import Overloaded

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAITING = 64
"""How many hashes may wait for a thread: two seconds of work or so. More are refused at once rather than late."""

# OWASP Password Storage Cheat Sheet: the least for Argon2id. One lane, so that a storm of logins cannot take every core.
_HASHER = Argon2Hasher(memory_cost=19 * 1024, time_cost=2, parallelism=1)


_NICENESS = 10
"""Of the threads that hash, above the process's own: beside a busy event loop they get a tenth of a core, enough to end."""


class Passwords:
    """Hashes and verifies passwords in threads of its own.

    Args:
        concurrency: hashes at once, each of which needs 19 MiB and a core (Argon2 runs without Python's global lock).
        meanwhile: entered while a hash is waited for, so that a storm of logins cannot take the places of other requests.
    """

    def __init__(self, concurrency: int, meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        self._meanwhile = meanwhile
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="passwords", initializer=_yield_to_others)
        self._unfinished = 0
        self._max_unfinished = concurrency + MAX_WAITING
        self._hasher = PasswordHash((_HASHER,))
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())

    async def hash(self, password: str) -> str:
        """A new hash of a password, in the PHC string format, with a salt of its own.

        Raises:
            Overloaded: too many are waiting already.
        """
        return await self._run(self._hasher.hash, password.encode())

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password that was hashed.

        Args:
            password: as it was typed.
            password_hash: what `hash` gave; None for a user who does not exist, which is never right and costs as much, so that the time
                taken does not tell who has an account (OWASP ASVS 5.0, 6.3.8).

        Raises:
            Overloaded: too many are waiting already.
        """
        matches = await self._run(self._hasher.verify, password.encode(), password_hash or self._nobodys_hash)
        return matches and password_hash is not None

    def close(self) -> None:
        """Drop what still waits and let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[P, T], *args: P.args, **_: P.kwargs) -> T:
        if self._unfinished >= self._max_unfinished:
            raise Overloaded("Too many passwords are being checked right now.", retry_after_seconds=2)
        self._unfinished += 1
        try:
            with self._meanwhile():
                return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        finally:
            self._unfinished -= 1


def _yield_to_others() -> None:
    # A thread has a priority of its own only on Linux (setpriority(2), "C library/kernel differences"); elsewhere it would be the whole process's.
    # Counted from where the process is: one that runs under nice(1) may not go back up.
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)
