"""What runs beside the requests of a process."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """What is found out once at a time, for all who ask meanwhile: however many ask, they cannot pile up.

    Args:
        find: finds it out.
        reuse_seconds: for how long since the asking an answer is good for later ones, too.
    """

    def __init__(self, find: Callable[[], Coroutine[Any, Any, _T]], *, reuse_seconds: float = 0.0) -> None:
        self._find = find
        self._reuse_seconds = reuse_seconds
        self._task: asyncio.Task[_T] | None = None
        self._asked_at = float("-inf")

    async def within(self, seconds: float, *, otherwise: _T) -> _T:
        """The answer, or `otherwise` when it takes longer; then it is still waited for by who asks next.

        Ending a query on a connection that has fallen silent takes psycopg ten seconds more, so that nothing is cancelled.
        """
        task = self._asked()
        await asyncio.wait({task}, timeout=seconds)
        return task.result() if task.done() else otherwise

    async def get(self) -> _T:
        """The answer. Who goes away meanwhile ends it for nobody else."""
        return await asyncio.shield(self._asked())

    def _asked(self) -> asyncio.Task[_T]:
        if self._task is None or (self._task.done() and time.monotonic() - self._asked_at >= self._reuse_seconds):
            self._task, self._asked_at = asyncio.create_task(self._find()), time.monotonic()
        return self._task


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run it for as long as the block runs; what is not done by then is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
