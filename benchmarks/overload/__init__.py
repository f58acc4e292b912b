"""`make bench-overload`: what Stockroom does when too much comes, when clients leave, and when PostgreSQL dies."""
