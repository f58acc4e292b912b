"""The job queue's tables: procrastinate's own versioned SQL files, applied by our migrations.

A new version of procrastinate brings further files; a new revision applies them as another stage.
"""

from importlib.resources import files

from alembic import op

# Before version 17, PostgreSQL uses a new value of an enum only after a commit: a stage ends with the file that adds one, and is a transaction of its own.
_STAGES = (
    "02.06.00_01_add_cancel_states.sql",
    "03.04.00_01_pre_add_retry_failed_job_procedure.sql",
    "03.04.00_50_post_add_retry_failed_job_procedure.sql",
)

_DROP = r"""
DROP TABLE procrastinate_periodic_defers, procrastinate_events, procrastinate_jobs CASCADE;
DROP TABLE IF EXISTS procrastinate_workers CASCADE;
DO $$
DECLARE
    leftover regprocedure;
    kind regtype;
BEGIN
    FOR leftover IN SELECT oid FROM pg_proc WHERE proname LIKE 'procrastinate\_%' AND pronamespace = current_schema()::regnamespace LOOP
        EXECUTE format('DROP ROUTINE %s CASCADE', leftover);
    END LOOP;
    FOR kind IN
        SELECT oid FROM pg_type WHERE typname LIKE 'procrastinate\_%' AND typtype IN ('e', 'c') AND typnamespace = current_schema()::regnamespace
    LOOP
        EXECUTE format('DROP TYPE %s CASCADE', kind);
    END LOOP;
END
$$
"""


def apply_stage(number: int) -> None:
    """Apply the files of a stage, counted from 0, in the migration's transaction."""
    first = _STAGES[number - 1] if number else ""
    for script in sorted(files("procrastinate.sql.migrations").iterdir(), key=lambda script: script.name):
        if script.name.endswith(".sql") and first < script.name <= _STAGES[number]:
            _execute(script.read_text(encoding="utf-8"))


def take_back_stage(number: int) -> None:
    """Go back to before a stage. The files lead only upwards, so everything goes, the jobs included, and the earlier stages are made anew."""
    with op.get_context().autocommit_block():
        _execute(_DROP)
        for earlier in range(number):
            apply_stage(earlier)


def _execute(sql: str) -> None:
    # The files hold several statements and percent signs: psycopg sends a text without parameters as it is.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(sql)
    cursor.close()
