"""What requests, lists in a large shop, and imports cost: `make bench`, `make bench-scale`, `make bench-import`."""
