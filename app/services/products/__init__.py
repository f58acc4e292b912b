"""Products and their variants: what is sold, and at what price."""

from app.services.products.reading import ProductFilter, get_product, get_variant, list_products
from app.services.products.writing import archive_product, create_product, patch_product

__all__ = ["ProductFilter", "archive_product", "create_product", "get_product", "get_variant", "list_products", "patch_product"]
