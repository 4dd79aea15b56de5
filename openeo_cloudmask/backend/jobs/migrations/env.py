"""What alembic runs: it takes the connection that ``database.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from openeo_cloudmask.backend.jobs.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite alters tables by copying them
)
with context.begin_transaction():
    context.run_migrations()
