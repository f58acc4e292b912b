"""The shapes of requests and answers, one module a resource: the source of truth for OpenAPI."""
