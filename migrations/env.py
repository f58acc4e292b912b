"""How Alembic reaches the database: in one transaction, under an advisory lock, with time limits."""

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from app.core.migrations import known_revisions
from app.models import Base

# Any number does, as long as it is always this one.
_ADVISORY_LOCK = 7_306_018_442


def belongs_to_us(name: str | None, kind: str, _parents: object) -> bool:
    """Leave procrastinate's tables to the SQL files it ships."""
    return not (kind == "table" and name is not None and name.startswith("procrastinate_"))


def run() -> None:
    engine = create_engine(context.config.attributes["url"], poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        # A migration that waits for a lock makes every request behind it wait too: give up early and try again instead.
        connection.execute(text("SET lock_timeout = '4s'"))
        connection.execute(text("SET statement_timeout = '10min'"))
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            include_name=belongs_to_us,
            compare_server_default=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            # Where a newer version has been, this one has nothing to do: it runs on that schema as it is.
            if known_revisions().issuperset(context.get_context().get_current_heads()) or not context.config.attributes.get("up"):
                context.run_migrations()


run()
