"""What requests, lists in a large shop, imports and overload cost: `make bench`, `bench-scale`, `bench-import`, `bench-overload`."""
