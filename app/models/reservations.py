"""Stock held for a while."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.orm import Base, Id, Timestamped


class Reservation(Timestamped, Base):
    """A hold. `active` in the table can mean expired but not swept yet: always look at `expires_at` too."""

    __tablename__ = "reservation"
    __table_args__ = (
        CheckConstraint("status IN ('active', 'committed', 'released', 'expired')", name="status"),
        Index("reservation_due_idx", "expires_at", postgresql_where=text("status = 'active'")),
    )

    id: Mapped[Id]
    status: Mapped[str]
    reference: Mapped[str | None]
    expires_at: Mapped[datetime]
    created_by: Mapped[UUID | None]


class ReservationLine(Base):
    """Units of a variant held at one location."""

    __tablename__ = "reservation_line"
    __table_args__ = (CheckConstraint("quantity > 0", name="positive"),)

    reservation_id: Mapped[UUID] = mapped_column(ForeignKey("reservation.id"), primary_key=True)
    variant_id: Mapped[UUID] = mapped_column(ForeignKey("variant.id"), primary_key=True)
    location_id: Mapped[UUID] = mapped_column(ForeignKey("location.id"), primary_key=True)
    quantity: Mapped[int] = mapped_column(BigInteger)
