"""A web process or gateway for races, beside those of the stack: the same program, which can be told to be a mutant.

python -m tests.races.beside web|gateway PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from agentauth.web.protocol import Patience


def main(what: str, port: int) -> None:
    application: Any
    if what == "web":
        from agentauth.web.application import application
    else:
        from agentauth.asgi import application
    from tests.races.mutants import MUTANTS

    cure = MUTANTS[""]()

    async def told(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal cure
        if scope["type"] != "http" or not scope["path"].startswith("/-mutant/"):
            await application(scope, receive, send)
            return
        cure()
        cure = MUTANTS[scope["path"].removeprefix("/-mutant/")]()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    uvicorn.run(
        told, host="127.0.0.1", port=port, loop="uvloop", ws="none", lifespan="on", log_level="warning",
        access_log=False, proxy_headers=False, http=Patience,
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
