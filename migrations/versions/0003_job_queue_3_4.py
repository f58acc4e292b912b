"""The job queue, up to the events of version 3.4.

Touches only procrastinate's own tables (app/core/job_schema.py).
"""

from app.core import job_schema

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    job_schema.apply_stage(1)


def downgrade() -> None:
    job_schema.take_back_stage(1)
