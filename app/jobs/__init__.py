"""Durable jobs, kept by procrastinate in the same PostgreSQL: thin tasks that call services."""
