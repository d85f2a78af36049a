"""The gateway's server: uvicorn around `agentauth.asgi`, in as many processes as asked for."""

from __future__ import annotations

from agentauth.embedded.serving import parser, raise_limits, serve


def main() -> None:
    asking = parser(__doc__, 8001)
    asking.add_argument("--fd", type=int, help="a socket that listens already, instead of host and port")
    asking.add_argument("--workers", type=int, default=1)
    asking.add_argument("--grace", type=int, default=4, help="seconds for open calls to end once told to stop")
    asked = asking.parse_args()
    raise_limits()
    serve(
        "agentauth.asgi:application",
        host=asked.host,
        port=asked.port,
        fd=asked.fd,
        workers=asked.workers,
        timeout_graceful_shutdown=asked.grace,
    )


if __name__ == "__main__":
    main()
