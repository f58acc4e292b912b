"""The job queue, as version 3.4 wants it.

Touches only procrastinate's own tables (app/core/job_schema.py).
"""

from app.core import job_schema

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    job_schema.apply_stage(2)


def downgrade() -> None:
    job_schema.take_back_stage(2)
