"""Reservations."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.schemas.values import Input, Integer, LocationCode, Output, Quantity, Reference, Sku, Timestamped

ReservationStatus = Literal["active", "committed", "released", "expired"]
Lifetime = Annotated[Integer, Field(ge=1, le=7 * 24 * 3600)]
"""From one second to seven days."""


class LineIn(Input):
    """Units to hold. Without a location they are all taken at one that has enough."""

    sku: Sku
    quantity: Quantity
    location: LocationCode | None = None


class ReservationCreate(Input):
    """Stock to hold for a while: every line, or none. Lines for the same SKU and location are summed."""

    lines: Annotated[list[LineIn], Field(min_length=1, max_length=100)]
    expires_in_seconds: Lifetime = 900
    reference: Reference | None = None


class ReservationExtend(Input):
    """The hold's new lifetime, counted from now."""

    expires_in_seconds: Lifetime


class LineOut(Output):
    """Units held, and where."""

    sku: str
    quantity: int
    location: str


class ReservationOut(Timestamped):
    """A reservation. `active` always means that it has not expired."""

    id: UUID
    status: ReservationStatus
    lines: list[LineOut]
    reference: str | None
    expires_at: datetime
