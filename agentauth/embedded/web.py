"""The console's web server: uvicorn around `agentauth.web`, in one process."""

from __future__ import annotations

import gc

from agentauth.embedded.serving import parser, raise_limits, serve


def main() -> None:
    asked = parser(__doc__, 8000).parse_args()
    raise_limits()
    from agentauth.web.application import application

    gc.collect()
    gc.freeze()  # what is here stays: looking through all of it again and again would stop everybody for 50 ms
    serve(application, host=asked.host, port=asked.port, timeout_graceful_shutdown=5)


if __name__ == "__main__":
    main()
