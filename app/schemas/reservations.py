"""Reservations."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from app.schemas.values import CREATED, AsInteger, Input, LocationCode, Output, Quantity, Reference, Sku, Timestamped, example

ReservationStatus = Literal["active", "committed", "released", "expired"]
Lifetime = Annotated[int, Field(strict=True, ge=1, le=7 * 24 * 3600), AsInteger]
"""From one second to seven days."""


class LineIn(Input):
    """Units to hold. Without a location they are all taken at one that has enough."""

    sku: Sku
    quantity: Quantity
    location: LocationCode | None = None


class ReservationCreate(Input):
    """Stock to hold for a while: every line, or none. Lines for the same SKU and location are summed."""

    model_config = example(lines=[{"sku": "LS-BLU-M", "quantity": 2}], expires_in_seconds=600, reference="order 17")

    lines: Annotated[list[LineIn], Field(min_length=1, max_length=100)]
    expires_in_seconds: Lifetime = 900
    reference: Reference | None = None


class ReservationExtend(Input):
    """The hold's new lifetime, counted from now."""

    model_config = example(expires_in_seconds=600)

    expires_in_seconds: Lifetime


class LineOut(Output):
    """Units held, and where."""

    sku: str
    quantity: int
    location: str


class ReservationOut(Timestamped):
    """A reservation. `active` always means that it has not expired."""

    model_config = example(
        id="01a20319-f57e-7bfc-ade2-7b9ae95caf49",
        status="active",
        lines=[{"sku": "LS-BLU-M", "quantity": 2, "location": "BER-1"}],
        reference="order 17",
        expires_at="2026-11-02T09:40:00.417523+00:00",
        **CREATED,
    )

    id: UUID
    status: ReservationStatus
    lines: list[LineOut]
    reference: str | None
    expires_at: datetime
