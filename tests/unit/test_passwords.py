"""Passwords: Argon2id beside the event loop, in a bounded number."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator

import pytest

from app.core.problems import Overloaded
from app.core.security import Passwords
from app.core.security.passwords import MAX_WAITING

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def passwords() -> AsyncIterator[Passwords]:
    made = Passwords(concurrency=1)
    yield made
    made.close()


async def test_a_hash_is_argon2id_with_owasps_cost_and_one_lane_and_has_its_own_salt(passwords: Passwords) -> None:
    first, second = await passwords.hash(PASSWORD), await passwords.hash(PASSWORD)
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second


@pytest.mark.parametrize("password", [PASSWORD, "", "x" * 256, "宇宙\U0001f680", "nul\x00inside"])
async def test_a_password_verifies_against_its_own_hash_only(passwords: Passwords, password: str) -> None:
    password_hash = await passwords.hash(password)
    assert await passwords.verify(password, password_hash)
    assert not await passwords.verify(password + "x", password_hash)
    assert not await passwords.verify(password + "\x00", password_hash)


async def test_nobodys_password_is_never_right_and_costs_as_much(passwords: Passwords) -> None:
    somebodys = await passwords.hash(PASSWORD)
    assert passwords._nobodys_hash.split("$")[1:4] == somebodys.split("$")[1:4]
    assert len(passwords._nobodys_hash) == len(somebodys)
    assert not await passwords.verify(PASSWORD, None)
    # Not even when somebody guesses what nobody's hash was made from.
    passwords._nobodys_hash = somebodys
    assert not await passwords.verify(PASSWORD, None)


async def test_hashing_leaves_the_event_loop_free_and_runs_in_threads_of_its_own(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go_on, threads = threading.Event(), threading.Event(), []
    run = passwords._hasher.hash

    def hash_when_told(password: bytes) -> str:
        threads.append(threading.current_thread().name)
        started.set()
        assert go_on.wait(5)
        return run(password)

    monkeypatch.setattr(passwords._hasher, "hash", hash_when_told)
    task = asyncio.create_task(passwords.hash(PASSWORD))
    async with asyncio.timeout(5):
        while not started.is_set():
            await asyncio.sleep(0.001)
    go_on.set()
    assert (await task).startswith("$argon2id$")
    assert threads[0].startswith("passwords")


async def test_more_than_can_wait_are_refused_at_once_and_room_comes_back(passwords: Passwords) -> None:
    waiting = [asyncio.create_task(passwords.verify(PASSWORD, None)) for _ in range(MAX_WAITING + 2)]
    await asyncio.sleep(0)
    for ask in (passwords.hash(PASSWORD), passwords.verify(PASSWORD, None)):
        with pytest.raises(Overloaded):
            await ask
    assert not any(task.done() for task in waiting)
    # Those who went away make room for others, and what nobody waits for any more is not worked on.
    for task in waiting[2:]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert not await passwords.verify(PASSWORD, None)


async def test_hashing_takes_no_more_of_a_core_than_it_may_and_who_comes_alone_waits_for_no_rest() -> None:
    paced = Passwords(concurrency=1, cores=0.25)
    try:
        began, cpu_began = time.monotonic(), time.process_time()
        await paced.verify(PASSWORD, None)
        first_seconds = time.monotonic() - began
        for _ in range(7):
            await paced.verify(PASSWORD, None)
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu_began
    finally:
        paced.close()
    # Of eight, the last has no rest behind it.
    assert cpu_seconds < 0.25 * seconds * 8 / 7 * 1.2
    assert first_seconds < seconds / 8


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own only on Linux")
async def test_hashing_yields_to_the_event_loop(passwords: Passwords) -> None:
    await passwords.verify(PASSWORD, None)
    (thread,) = passwords._executor._threads
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) == min(own + 10, 19)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own only on Linux")
def test_a_process_that_is_nice_already_hashes_no_less_nicely() -> None:
    hashing = (
        "import asyncio, os; from app.core.security import Passwords; passwords = Passwords(1); asyncio.run(passwords.hash('x'));"
        "print(os.getpriority(os.PRIO_PROCESS, next(iter(passwords._executor._threads)).native_id)); passwords.close()"
    )
    ran = subprocess.run(["nice", "-n", "12", sys.executable, "-c", hashing], capture_output=True, text=True, check=True)
    assert int(ran.stdout) > 12
