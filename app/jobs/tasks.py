"""The tasks, and when they run by themselves."""

from functools import partial
from typing import Protocol, cast

import structlog
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Status

from app.core.config import Settings
from app.core.db import Database, WriteSession
from app.services import idempotency, logins, reservations

_log = structlog.get_logger()

# Replaced by one that knows the database when a worker starts (app/jobs/worker.py); tasks are declared before that.
jobs = App(connector=PsycopgConnector())


def database_of(context: JobContext) -> Database:
    """The worker's database, for its tasks."""
    return cast("Database", context.additional_context["database"])


def settings_of(context: JobContext) -> Settings:
    """The worker's settings, for its tasks."""
    return cast("Settings", context.additional_context["settings"])


# Every two seconds (croniter reads the sixth field as seconds), so that nothing stays held more than five beyond its time, with the queue's own delays.
# The queueing lock keeps it to one waiting job.
@jobs.periodic(cron="* * * * * */2")
@jobs.task(pass_context=True, queueing_lock="expire_reservations")
async def expire_reservations(context: JobContext, timestamp: int) -> None:
    """Give back the stock of reservations whose time is up."""
    del timestamp
    expired = await _in_batches(database_of(context), reservations.expire_due, most=200)
    if expired:
        _log.info("reservations_expired", count=expired)


@jobs.periodic(cron="7 * * * *")
@jobs.task(pass_context=True, queueing_lock="drop_old")
async def drop_old(context: JobContext, timestamp: int) -> None:
    """Forget answers to idempotency keys and failed logins that nobody will ask for any more."""
    del timestamp
    drop_keys = partial(idempotency.drop_old, older_than_hours=settings_of(context).idempotency_lifetime_hours)
    keys = await _in_batches(database_of(context), drop_keys, most=5000)
    async with database_of(context).write() as session:
        attempts = await logins.drop_stale(session)
    _log.info("dropped_old", idempotency_keys=keys, login_attempts=attempts)


@jobs.periodic(cron="* * * * *")
@jobs.task(pass_context=True, queueing_lock="retry_stalled")
async def retry_stalled(context: JobContext, timestamp: int) -> None:
    """Run jobs again whose worker is gone: without this they would be "doing" for ever."""
    del timestamp
    manager = context.app.job_manager
    for job in await manager.get_stalled_jobs():
        _log.warning("job_stalled", task=job.task_name, job_id=job.id)
        try:
            await manager.retry_job(job)
        except UniqueViolation:
            # Its queueing lock is taken: one like it waits already, so this one is not needed any more.
            await manager.finish_job(job, status=Status.ABORTED, delete_job=True)


class _Step(Protocol):
    async def __call__(self, session: WriteSession, *, most: int) -> int: ...


async def _in_batches(database: Database, step: _Step, *, most: int) -> int:
    """Take a step in transactions of its own until one of them found less than `most` to do; returns how much was done in all."""
    total = 0
    while True:
        async with database.write() as session:
            done = await step(session, most=most)
        total += done
        if done < most:
            return total
