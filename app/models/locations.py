"""Where stock lies."""

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.orm import Base, Id, JsonObject, Timestamped, Version


class Location(Timestamped, Base):
    """A warehouse or shop, known by its code."""

    __tablename__ = "location"

    id: Mapped[Id]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    address: Mapped[JsonObject]
    active: Mapped[bool] = mapped_column(server_default=text("true"))
    """An inactive location keeps its stock, but nothing can be reserved there."""
    version: Mapped[Version]
