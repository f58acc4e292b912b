"""HTTP only: routes, what they depend on, problem+json and middleware. The business is in `app.services`."""
