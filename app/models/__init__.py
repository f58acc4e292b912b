"""The tables, one module a resource. `app.models.Base.metadata` knows all of them."""

from app.models.categories import Category
from app.models.idempotency import IdempotencyKey
from app.models.imports import ImportTotal
from app.models.locations import Location
from app.models.orm import Base
from app.models.products import Price, Product, ProductCategory, ProductTag, Variant
from app.models.reservations import Reservation, ReservationLine
from app.models.stock import StockLevel, StockMovement
from app.models.users import LoginAttempt, User

__all__ = [
    "Base",
    "Category",
    "IdempotencyKey",
    "ImportTotal",
    "Location",
    "LoginAttempt",
    "Price",
    "Product",
    "ProductCategory",
    "ProductTag",
    "Reservation",
    "ReservationLine",
    "StockLevel",
    "StockMovement",
    "User",
    "Variant",
]
