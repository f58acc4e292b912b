"""Version 1 of the API, one module a resource. Routes are matched in this order, so the busiest come first."""

from app.api.v1 import auth, categories, locations, products, reservations, stock, users, variants

RESOURCES = (
    products.router,
    variants.router,
    stock.router,
    reservations.router,
    categories.router,
    locations.router,
    auth.router,
    users.router,
    auth.jwks_router,
)
