"""Answers that are kept so that a repeated request has one effect."""

from uuid import UUID

from sqlalchemy import SmallInteger
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.models.orm import Base, Timestamp


class IdempotencyKey(Base):
    """The answer to one request, written in the transaction of its effect."""

    __tablename__ = "idempotency_key"

    principal_id: Mapped[UUID] = mapped_column(primary_key=True)
    route: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes]
    """SHA-256 of the raw body."""
    status: Mapped[int] = mapped_column(SmallInteger)
    headers: Mapped[dict[str, str]] = mapped_column(JSONB)
    body: Mapped[bytes]
    created_at: Mapped[Timestamp] = mapped_column(index=True)
