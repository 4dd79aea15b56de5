"""Result files that are still to be deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "leftovers",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("stored_at", sa.Text),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("leftovers")
