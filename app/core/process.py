"""What a process holds for as long as it lives: made once at start, shared by all its requests, never changed."""

from dataclasses import dataclass

from app.capacity.model import Plan
from app.core.admission import Admission
from app.core.boot_check import BootCheck
from app.core.config import Settings
from app.core.db import Database, DirectConnection
from app.core.security import AccessTokens, Passwords, Revocations


@dataclass(frozen=True, slots=True)
class Process:
    """The process's context."""

    settings: Settings
    plan: Plan
    admission: Admission
    database: Database
    direct: DirectConnection
    boot_check: BootCheck
    tokens: AccessTokens
    passwords: Passwords
    revocations: Revocations
