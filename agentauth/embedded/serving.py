"""uvicorn as both doors run it: one protocol, one set of limits."""

from __future__ import annotations

import argparse
import resource
from contextlib import suppress
from typing import Any

import uvicorn

IDLE_SECONDS = 75  # longer than proxies keep theirs, so that none sends into a connection that we are closing


def parser(about: str | None, port: int) -> argparse.ArgumentParser:
    """Where to listen."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=port)
    return parser


def raise_limits() -> None:
    """A connection is a descriptor: as many as the system allows us."""
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def serve(application: Any, **options: Any) -> None:
    """Answer until told to stop. `application` is ASGI, or its name."""
    from agentauth.settings import KNOBS
    from agentauth.web.protocol import Patience
    from agentauth.web.proxied import Proxied
    from agentauth.web.short import Short

    quick, proxies = hasattr(application, "at_once"), KNOBS.trusted_proxies
    if quick and proxies:
        application, proxies = Proxied(application, proxies), []
    uvicorn.run(
        application,
        loop="uvloop",
        http=Short if quick else Patience,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        server_header=False,
        timeout_keep_alive=IDLE_SECONDS,
        **options,
    )
