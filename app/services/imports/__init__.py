"""Storing imported rows: set-based, a batch a transaction, and without effect where the catalogue already says the same."""

from app.services.imports.loading import load_demo, load_rows
from app.services.imports.summary import Summary, Tally

__all__ = ["Summary", "Tally", "load_demo", "load_rows"]
