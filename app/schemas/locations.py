"""Locations."""

from typing import Any
from uuid import UUID

from app.schemas.values import CREATED, Flag, Input, JsonObject, LocationCode, Name, Patch, Versioned, absent, example

_BERLIN: dict[str, Any] = {"code": "BER-1", "name": "Warehouse Berlin", "address": {"city": "Berlin", "country": "DE"}, "active": True}


class LocationCreate(Input):
    """A new location. Its code is how everything else refers to it."""

    model_config = example(**_BERLIN)

    code: LocationCode
    name: Name
    address: JsonObject = {}
    active: Flag = True


class LocationPatch(Patch):
    """A JSON merge: what is left out stays. The code cannot change; `address` merges key by key, null removes a key."""

    model_config = example(address={"street": "Hafenplatz 1"}, active=False)

    name: Name = absent()
    address: JsonObject = absent()
    active: Flag = absent()


class LocationOut(Versioned):
    """A location. At an inactive one nothing can be reserved, so nothing is `available`; what lies there still counts as on hand."""

    model_config = example(id="01890a60-1b7e-7c42-8f6a-6f2f3d5a9c10", **_BERLIN, version=1, **CREATED)

    id: UUID
    code: str
    name: str
    address: JsonObject
    active: bool
