"""The console's web server: uvicorn around `agentauth.web`, in one process."""

from __future__ import annotations

import argparse
import gc
import resource
from contextlib import suppress

import uvicorn

IDLE_SECONDS = 75  # longer than proxies keep theirs, so that none sends into a connection that we are closing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    with suppress(ValueError, OSError):  # a connection is a descriptor
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    from agentauth.web.application import application
    from agentauth.web.protocol import Patience

    gc.collect()
    gc.freeze()  # what is here stays: looking through all of it again and again would stop everybody for 50 ms
    uvicorn.run(
        application,
        host=asked.host,
        port=asked.port,
        loop="uvloop",
        http=Patience,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=2048,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
