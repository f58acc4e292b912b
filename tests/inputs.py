"""Inputs of the capacity plan, for tests of several kinds."""

from app.capacity.model import Inputs

LAPTOP = Inputs(
    cpu_limit_millicores=2000,
    replica_ceiling=1,
    surge_pods=0,
    terminating_pods=0,
    job_replica_ceiling=1,
    job_surge_pods=0,
    job_terminating_pods=0,
    connections_per_job_worker=5,
    max_connections=100,
)
