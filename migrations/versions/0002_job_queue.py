"""The job queue, up to the states of version 2.6.

Touches only procrastinate's own tables (app/core/job_schema.py).
"""

from app.core import job_schema

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    job_schema.apply_stage(0)


def downgrade() -> None:
    job_schema.take_back_stage(0)
