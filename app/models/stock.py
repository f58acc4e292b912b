"""How many there are, and the ledger that says why.

At all times `on_hand` is the sum of the ledger's `delta_on_hand`, and `reserved` both the sum of its `delta_reserved` and that of the lines of
active reservations. `stockroom stock reconcile` checks it.
"""

from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.orm import Base, Id, Timestamp


class StockLevel(Base):
    """A variant's quantities at one location. What is available is `on_hand - reserved`; below zero it is a shortfall."""

    __tablename__ = "stock_level"
    __table_args__ = (
        CheckConstraint("on_hand >= 0", name="on_hand_not_negative"),
        CheckConstraint("reserved >= 0", name="reserved_not_negative"),
        Index("stock_level_location_id_variant_id_idx", "location_id", "variant_id"),
    )

    variant_id: Mapped[UUID] = mapped_column(ForeignKey("variant.id"), primary_key=True)
    location_id: Mapped[UUID] = mapped_column(ForeignKey("location.id"), primary_key=True)
    on_hand: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    reserved: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated_at: Mapped[Timestamp]


class StockMovement(Base):
    """One line of the ledger. Never changed and never deleted; a trigger refuses both."""

    __tablename__ = "stock_movement"
    __table_args__ = (
        CheckConstraint("delta_on_hand <> 0 OR delta_reserved <> 0", name="moves_something"),
        Index("stock_movement_variant_id_id_idx", "variant_id", "id"),
        Index("stock_movement_variant_id_location_id_id_idx", "variant_id", "location_id", "id"),
        Index("stock_movement_location_id_id_idx", "location_id", "id"),
    )

    id: Mapped[Id]
    variant_id: Mapped[UUID] = mapped_column(ForeignKey("variant.id"))
    location_id: Mapped[UUID] = mapped_column(ForeignKey("location.id"))
    delta_on_hand: Mapped[int] = mapped_column(BigInteger)
    delta_reserved: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]
    """What a user gave (`received`, `sold`, …), or one of ours: `reserved`, `committed`, `released`, `expired`, `imported`."""
    reference: Mapped[str | None]
    cause_id: Mapped[UUID]
    """The adjustment, reservation or import that all movements of one cause share."""
    created_by: Mapped[UUID | None]
    created_at: Mapped[Timestamp]
