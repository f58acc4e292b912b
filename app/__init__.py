"""Stockroom: what do we sell, at what price, and how many are left?"""

__version__ = "0.1.0"
