"""Passwords: hashed with Argon2id beside the event loop, a bounded number at once."""

import asyncio
import os
import secrets
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, TypeVar

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from app.core.admission import Refusals
from app.core.problems import Overloaded

T = TypeVar("T")

MAX_WAITING = 64
"""How many hashes may wait for a thread: four seconds of work for half a core, and fewer where there is less. More are refused at once rather than late."""

_TOO_MANY = "Too many passwords are being checked right now."
_RETRY_AFTER_SECONDS = range(2, 6)
_WAIT_SECONDS = 4
_HASHES_PER_CORE_SECOND = 32

# OWASP Password Storage Cheat Sheet: the least for Argon2id. One lane, so that a storm of logins cannot take every core.
_HASHER = Argon2Hasher(memory_cost=19 * 1024, time_cost=2, parallelism=1)


_NICENESS = 10
"""Of the threads that hash, above the process's own: beside a busy event loop they get a tenth of a core, enough to end."""


class Passwords:
    """Hashes and verifies passwords in threads of its own.

    Args:
        concurrency: hashes at once, each of which needs 19 MiB and a core (Argon2 runs without Python's global lock).
        cores: how much CPU time a second all of them may take on average. A CPU limit is of a whole pod: hashing on a core of its own, a storm of logins
            would use it up for the event loop as well, whatever their priorities (Linux, Documentation/scheduler/sched-bwc.rst).
        meanwhile: entered while a hash or the turn for it is waited for, so that a storm of logins cannot take the places of other requests.

    Attributes:
        refusals: what those are told who are refused before they have said what is to be checked.
    """

    def __init__(
        self, concurrency: int, *, cores: float = inf, meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self._meanwhile = meanwhile
        self.refusals = Refusals(_TOO_MANY, retry_after_seconds=_RETRY_AFTER_SECONDS)
        self._executor = ThreadPoolExecutor(concurrency, thread_name_prefix="passwords", initializer=_yield_to_others)
        # Seconds for which a thread rests, for each in which it hashed.
        self._rest = max(0.0, concurrency / cores - 1)
        self._thread = _Thread()
        # One more than there are threads, so that none is idle while somebody looks up what it is to hash.
        self._turns = asyncio.Semaphore(concurrency + 1)
        self._waiting = 0
        self._max_waiting = max(1, int(min(MAX_WAITING, _WAIT_SECONDS * _HASHES_PER_CORE_SECOND * cores)))
        self._hasher = PasswordHash((_HASHER,))
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())

    @property
    def is_full(self) -> bool:
        """Whether the next one would be refused."""
        return self._waiting >= self._max_waiting

    @asynccontextmanager
    async def turn(self) -> AsyncIterator["Turn"]:
        """Wait until a thread is about to be free; others wait until the block ends.

        Taken before what is to be hashed is looked up, it keeps a storm of logins from the database as well.

        Raises:
            Overloaded: too many are waiting already, or it took too long.
        """
        if self.is_full:
            raise _too_many()
        self._waiting += 1
        try:
            # The number alone does not bound the time: a database that does not answer holds up whose turn it is.
            with self._meanwhile():
                async with asyncio.timeout(_WAIT_SECONDS):
                    await self._turns.acquire()
        except TimeoutError:
            raise _too_many() from None
        finally:
            self._waiting -= 1
        try:
            yield Turn(self._hasher, self._nobodys_hash, self._in_thread)
        finally:
            self._turns.release()

    async def hash(self, password: str) -> str:
        """`Turn.hash`, when its turn comes.

        Raises:
            Overloaded: as for `turn`.
        """
        async with self.turn() as turn:
            return await turn.hash(password)

    def close(self) -> None:
        """Drop what still waits and let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Callable[..., T], *args: Any) -> T:
        with self._meanwhile():
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._paced, partial(function, *args))

    def _paced(self, work: Callable[[], T]) -> T:
        """Do it when this thread has rested from the last one. To rest afterwards would let the caller wait for that too."""
        time.sleep(max(0.0, self._thread.rests_until - time.monotonic()))
        began = time.thread_time()
        try:
            return work()
        finally:
            self._thread.rests_until = time.monotonic() + (time.thread_time() - began) * self._rest


@dataclass(frozen=True, slots=True)
class Turn:
    """One who may hash now.

    Args:
        hasher: which does it.
        nobodys_hash: what a user who does not exist is verified against.
        in_thread: runs a function of a password, and of a hash for one that verifies.
    """

    hasher: PasswordHash
    nobodys_hash: str
    in_thread: Callable[..., Awaitable[Any]]

    async def hash(self, password: str) -> str:
        """A new hash of a password, in the PHC string format, with a salt of its own."""
        hashed: str = await self.in_thread(self.hasher.hash, password.encode())
        return hashed

    async def verify(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password that was hashed.

        Args:
            password: as it was typed.
            password_hash: what `hash` gave; None for a user who does not exist, which is never right and costs as much, so that the time
                taken does not tell who has an account (OWASP ASVS 5.0, 6.3.8).
        """
        matches: bool = await self.in_thread(self.hasher.verify, password.encode(), password_hash or self.nobodys_hash)
        return matches and password_hash is not None


class _Thread(threading.local):
    """What each thread that hashes knows of itself: until when it rests, by the monotonic clock, in seconds."""

    rests_until = 0.0


def _too_many() -> Overloaded:
    # Not all at the same time again.
    return Overloaded(_TOO_MANY, retry_after_seconds=secrets.choice(_RETRY_AFTER_SECONDS))


def _yield_to_others() -> None:
    # A thread has a priority of its own only on Linux (setpriority(2), "C library/kernel differences"); elsewhere it would be the whole process's.
    # Counted from where the process is: one that runs under nice(1) may not go back up.
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)
