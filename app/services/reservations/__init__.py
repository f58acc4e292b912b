"""Reservations: stock held for a while, then committed, released or expired."""

from app.services.reservations.ending import commit, expire_due, release
from app.services.reservations.holding import extend, get_reservation, reserve

__all__ = ["commit", "expire_due", "extend", "get_reservation", "release", "reserve"]
