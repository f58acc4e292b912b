"""Stock levels, adjustments and the ledger."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.schemas.values import CREATED, MAX_UNITS, AsInteger, Input, LocationCode, Output, Reference, Sku, example

_LEVEL: dict[str, Any] = {
    "sku": "LS-BLU-M",
    "location": "BER-1",
    "on_hand": 24,
    "reserved": 2,
    "available": 22,
    "updated_at": CREATED["updated_at"],
}
_ADJUSTMENT_ID = "01a20320-0c1d-7a4e-9b52-52f6c3f1d7aa"

AdjustmentReason = Literal["received", "sold", "returned", "damaged", "counted", "correction"]


def _not_zero(delta: int) -> int:
    if delta == 0:
        raise PydanticCustomError("zero", "The delta should not be 0")
    return delta


class AdjustmentLine(Input):
    """How many units came (positive) or went (negative)."""

    sku: Sku
    location: LocationCode
    delta: Annotated[
        int,
        Field(strict=True, ge=-MAX_UNITS, le=MAX_UNITS, json_schema_extra={"not": {"const": 0}}),
        AfterValidator(_not_zero),
        AsInteger,
    ]


class AdjustmentCreate(Input):
    """A change of what is on hand, all lines or none. Lines for the same SKU and location are summed."""

    model_config = example(lines=[{"sku": "LS-BLU-M", "location": "BER-1", "delta": 24}], reason="received", reference="delivery 7")

    lines: Annotated[list[AdjustmentLine], Field(min_length=1, max_length=100)]
    reason: AdjustmentReason
    reference: Reference | None = None


class StockLevelOut(Output):
    """A SKU's stock at one location. `available` is what can be reserved: `on_hand - reserved`, at an inactive location nothing.

    Below zero it is a shortfall.
    """

    model_config = example(**_LEVEL)

    sku: str
    location: str
    on_hand: int
    reserved: int
    available: int
    updated_at: datetime


class AdjustmentOut(Output):
    """The adjustment's id, which its lines in the ledger carry, and the levels after it."""

    model_config = example(id=_ADJUSTMENT_ID, lines=[_LEVEL])

    id: UUID
    lines: list[StockLevelOut]


class MovementOut(Output):
    """One line of the ledger. `cause_id` is the adjustment, reservation or import that moved the stock."""

    model_config = example(
        id="01a20320-0c1e-7d03-8e7b-0b1f5a6c2d48",
        sku="LS-BLU-M",
        location="BER-1",
        delta_on_hand=24,
        delta_reserved=0,
        reason="received",
        reference="delivery 7",
        cause_id=_ADJUSTMENT_ID,
        created_by="01890a5c-0e2b-7b11-a7d4-3f9d7a6c1e02",
        created_at=CREATED["created_at"],
    )

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
