"""Stock: how many there are where, what moved it, and whether the books agree."""

from app.services.stock.adjusting import adjust
from app.services.stock.levels import LevelChange, apply_changes, list_levels
from app.services.stock.movements import list_movements
from app.services.stock.reconciling import Discrepancy, reconcile

__all__ = ["Discrepancy", "LevelChange", "adjust", "apply_changes", "list_levels", "list_movements", "reconcile"]
