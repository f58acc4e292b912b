"""What imports have done, for the metrics.

Makes a table, locks nothing that was there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "import_total",
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("outcome IN ('stored', 'failed')", name=op.f("import_total_outcome_check")),
        sa.PrimaryKeyConstraint("outcome", name=op.f("import_total_pkey")),
    )


def downgrade() -> None:
    op.drop_table("import_total")
