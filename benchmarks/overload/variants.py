"""`python -m benchmarks.overload.variants bare|refusing|unlimited`: servers to compare with, each `stockroom serve` but for one thing."""

import sys
from typing import Any

from starlette.types import Receive, Scope, Send

from app.capacity.model import Plan
from app.core import server
from app.core.admission import Admission
from app.core.config import Settings, get_settings
from app.core.door import Door


class Bare:
    """Answers 503 to everything, and nothing else: the least that a refusal can cost on this server."""

    def __init__(self, settings: Settings) -> None:
        self.state = self
        self.settings = settings
        self.door = Door(Admission(sys.maxsize), varies=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or start and stop."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        ready = scope["path"] == "/livez"
        await send({"type": "http.response.start", "status": 200 if ready else 503, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


class _BareServer(server._Gunicorn):
    def load(self) -> Any:
        return Bare(self._settings)


def main() -> None:
    """Run one until SIGTERM."""
    match sys.argv[1]:
        case "bare":
            server._Gunicorn = _BareServer  # type: ignore[misc] # in this process only
        case "refusing":
            _admit(0)
        case "unlimited":
            _admit(sys.maxsize)
    server.serve(get_settings())


def _admit(limit: int) -> None:
    def of(plan: Plan) -> Admission:
        del plan
        return Admission(limit)

    Admission.of = of  # type: ignore[method-assign] # in this process only


if __name__ == "__main__":
    main()
