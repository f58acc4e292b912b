"""The job queue's tables: procrastinate's own versioned SQL files, up to 3.4.

A later version of procrastinate brings further files; a new revision applies them in the same way.
"""

from importlib.resources import files

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LAST = "03.04.00_50_post_add_retry_failed_job_procedure.sql"

# Tables own their indexes, triggers and sequences; what is left are functions and types.
_DROP = """
DROP TABLE procrastinate_periodic_defers, procrastinate_events, procrastinate_jobs, procrastinate_workers CASCADE;
DO $$
DECLARE
    leftover regprocedure;
    kind regtype;
BEGIN
    FOR leftover IN SELECT oid FROM pg_proc WHERE proname LIKE 'procrastinate\\_%' AND pronamespace = current_schema()::regnamespace LOOP
        EXECUTE format('DROP ROUTINE %s CASCADE', leftover);
    END LOOP;
    FOR kind IN
        SELECT oid FROM pg_type WHERE typname LIKE 'procrastinate\\_%' AND typtype IN ('e', 'c') AND typnamespace = current_schema()::regnamespace
    LOOP
        EXECUTE format('DROP TYPE %s CASCADE', kind);
    END LOOP;
END
$$
"""


def upgrade() -> None:
    scripts = sorted(
        (file for file in files("procrastinate.sql.migrations").iterdir() if file.name.endswith(".sql")), key=lambda file: file.name
    )
    for script in scripts:
        if script.name <= _LAST:
            _execute(script.read_text(encoding="utf-8"))


def downgrade() -> None:
    _execute(_DROP)


def _execute(sql: str) -> None:
    # The files hold several statements and percent signs: psycopg sends a text without parameters as it is.
    cursor = op.get_bind().connection.cursor()
    cursor.execute(sql)
    cursor.close()
