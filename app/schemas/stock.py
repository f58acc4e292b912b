"""Stock levels, adjustments and the ledger."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.schemas.values import MAX_UNITS, Input, Integer, LocationCode, Output, Reference, Sku

AdjustmentReason = Literal["received", "sold", "returned", "damaged", "counted", "correction"]


def _not_zero(delta: int) -> int:
    if delta == 0:
        raise PydanticCustomError("zero", "The delta should not be 0")
    return delta


class AdjustmentLine(Input):
    """How many units came (positive) or went (negative)."""

    sku: Sku
    location: LocationCode
    delta: Annotated[Integer, Field(ge=-MAX_UNITS, le=MAX_UNITS, json_schema_extra={"not": {"const": 0}}), AfterValidator(_not_zero)]


class AdjustmentCreate(Input):
    """A change of what is on hand, all lines or none. Lines for the same SKU and location are summed."""

    lines: Annotated[list[AdjustmentLine], Field(min_length=1, max_length=100)]
    reason: AdjustmentReason
    reference: Reference | None = None


class StockLevelOut(Output):
    """A SKU's stock at one location. `available` is `on_hand - reserved`; below zero it is a shortfall."""

    sku: str
    location: str
    on_hand: int
    reserved: int
    available: int
    updated_at: datetime


class AdjustmentOut(Output):
    """The adjustment's id, which its lines in the ledger carry, and the levels after it."""

    id: UUID
    lines: list[StockLevelOut]


class MovementOut(Output):
    """One line of the ledger. `cause_id` is the adjustment, reservation or import that moved the stock."""

    id: UUID
    sku: str
    location: str
    delta_on_hand: int
    delta_reserved: int
    reason: str
    reference: str | None
    cause_id: UUID
    created_by: UUID | None
    created_at: datetime
