"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "users",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False, unique=True),
        sa.Column("password_hash", sa.String(256)),
        sa.Column("issuer", sa.String(256)),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
    )
    op.create_table(
        "tokens",
        sa.Column("digest", sa.String(64), primary_key=True),
        _user_id(),
        sa.Column("expires", sa.Float, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), primary_key=True),
        _user_id(),
        sa.Column("title", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("process", sa.JSON, nullable=False),
        sa.Column("plan", sa.String(64)),
        sa.Column("budget", sa.Float),
        sa.Column("log_level", sa.String(16), nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("sealed", sa.Text),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("progress", sa.Float),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sa.Column("started", sa.Float),
        sa.Column("finished", sa.Float),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("files", sa.JSON),
        sa.Column("stored_at", sa.Text),
        sa.Column("expires", sa.Float),
    )
    op.create_index("jobs_user", "jobs", ["user_id", "created"])
    op.create_index("jobs_status", "jobs", ["status"])
    op.create_table(
        "logs",
        sa.Column("id", _BIG, primary_key=True, autoincrement=True),
        sa.Column(
            "job_id", sa.String(64), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("code", sa.String(64)),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_index("logs_job", "logs", ["job_id", "id"])
    op.create_table(
        "processes",
        _user_id(primary_key=True),
        sa.Column("id", sa.String(128), primary_key=True),
        sa.Column("spec", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("processes", "logs", "jobs", "tokens", "users"):
        op.drop_table(name)


def _user_id(*, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(
        "user_id",
        sa.String(64),
        sa.ForeignKey("users.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )
