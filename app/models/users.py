"""Accounts, and the failed logins that slow an attacker down."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Text, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from app.models.orm import Base, Id, Timestamped, Version


class User(Timestamped, Base):
    """Someone, or some tool, that logs in."""

    __tablename__ = "app_user"
    __table_args__ = (CheckConstraint("email = lower(email)", name="email_is_lower"),)

    id: Mapped[Id]
    email: Mapped[str] = mapped_column(unique=True)
    display_name: Mapped[str]
    password_hash: Mapped[str]
    roles: Mapped[list[str]] = mapped_column(ARRAY(Text))
    disabled: Mapped[bool] = mapped_column(server_default=text("false"))
    token_generation: Mapped[int] = mapped_column(server_default=text("1"))
    """Tokens carry the generation they were made in; those of an older one no longer work."""
    tokens_revoked_at: Mapped[datetime | None] = mapped_column(index=True)
    """When the generation last rose; workers look for recent ones."""
    version: Mapped[Version]


class LoginAttempt(Base):
    """Failed logins of one account or one address. A successful login clears its account's."""

    __tablename__ = "login_attempt"

    subject: Mapped[str] = mapped_column(primary_key=True)
    """`account:<SHA-256 of the email>` or `address:<address>`."""
    failures: Mapped[int]
    last_failure_at: Mapped[datetime] = mapped_column(index=True)
    blocked_until: Mapped[datetime]
