"""Who called, as proxies that the operator named say it, also for what is said at once (`short.py`)."""

from collections.abc import Sequence
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class Proxied(ProxyHeadersMiddleware):
    """In front of an application with a short way."""

    app: Any

    def takes(self, method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bool:
        return bool(self.app.takes(method, target, headers))

    def at_once(self, target: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes, ip: str) -> Any:
        if ip in self.trusted_hosts:
            said = b", ".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1")
            ip = self.trusted_hosts.get_trusted_client_address(said)[0] or ip
        return self.app.at_once(target, headers, body, ip)
