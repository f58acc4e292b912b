"""What the tables share: naming of constraints, column types, and the columns that most of them have."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import DateTime, MetaData, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Id = Annotated[UUID, mapped_column(primary_key=True, server_default=text("uuid_v7()"))]
"""A UUIDv7 made by the database (RFC 9562), so that ids sort by creation on one clock."""

JsonObject = Annotated[dict[str, Any], mapped_column(JSONB, server_default=text("'{}'"))]
Timestamp = Annotated[datetime, mapped_column(DateTime(timezone=True), server_default=text("now()"))]
Version = Annotated[int, mapped_column(server_default=text("1"))]
"""Counts the changes of a row; its `ETag`."""


class Base(DeclarativeBase):
    """The base of all tables. Constraints get names, so that migrations can change and errors can recognise them."""

    metadata = MetaData(
        naming_convention={
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "pk": "%(table_name)s_pkey",
        }
    )
    type_annotation_map = {str: Text, datetime: DateTime(timezone=True)}  # noqa: RUF012 - the shape SQLAlchemy declares


class Timestamped:
    """When a row was made and last changed."""

    created_at: Mapped[Timestamp]
    updated_at: Mapped[Timestamp]
