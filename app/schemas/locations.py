"""Locations."""

from typing import Self
from uuid import UUID

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from app.schemas.values import Flag, Input, JsonObject, LocationCode, Name, Versioned, absent


class LocationCreate(Input):
    """A new location. Its code is how everything else refers to it."""

    code: LocationCode
    name: Name
    address: JsonObject = {}
    active: Flag = True


class LocationPatch(Input):
    """A JSON merge: what is left out stays. The code cannot change; `address` merges key by key, null removes a key."""

    name: Name = absent()
    address: JsonObject = absent()
    active: Flag = absent()

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty", "There should be at least one field to change")
        return self


class LocationOut(Versioned):
    """A location. At an inactive one nothing can be reserved."""

    id: UUID
    code: str
    name: str
    address: JsonObject
    active: bool
