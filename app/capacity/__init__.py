"""What fits: workers, pools and connections derived from the limits of the pod and of PostgreSQL."""
