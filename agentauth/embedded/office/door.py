"""Who stands at the office's door: the key that the gateway holds, and the assertion that says who it calls for."""

import asyncio
import hmac
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt

from agentauth import settings
from agentauth.embedded import paths

_ISSUER_PATH = re.compile(r"/t/([a-z][a-z0-9-]{1,38}[a-z0-9])\Z")
_KEYS_LIVE = 300.0  # seconds
_ASK_AGAIN = 2.0  # seconds, for a key that we do not know yet


class TurnedAway(Exception):
    """401, or 503 when we cannot check; the text says why."""

    def __init__(self, reason: str, status: int = 401) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom the gateway calls for, as it asserted."""

    tenant: str
    person: str  # the member, or the agent itself when it runs by itself
    agent: str
    grant: str
    call: str
    operation: str


def office_key() -> str:
    """The key that opens the office: made once, mode 0600, known to the demo's resources and to the office only."""
    path = paths.secrets_dir() / "office.key"
    if not path.exists():
        fresh = path.with_name(f"office.key.{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(32))
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass  # another process was first: its key counts
        fresh.unlink()
    return path.read_text().strip()


class Door:
    """Checks keys and assertions. Holds the tenants' public keys for a while."""

    def __init__(self, key: str | None = None) -> None:
        self._key = key or office_key()
        self._keys: dict[str, tuple[float, dict[str, jwt.PyJWK]]] = {}
        self._asking = asyncio.Lock()
        urls = urlsplit(settings.KNOBS.office_url)
        self._origin = f"{urls.scheme}://{urls.netloc}"

    def let_in(self, headers: Mapping[str, str]) -> None:
        """The key, or TurnedAway."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._key.encode()):
            raise TurnedAway("The office opens only to its own key.")

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who calls for whom. TurnedAway without a good assertion."""
        token = headers.get("agentauth-assertion", "")
        if not token:
            raise TurnedAway("No AgentAuth-Assertion says who is calling.")
        try:
            head = jwt.get_unverified_header(token)
            issuer = str(jwt.decode(token, options={"verify_signature": False}).get("iss", ""))
        except jwt.PyJWTError:
            raise TurnedAway("The assertion cannot be read.") from None
        if head.get("typ") != "txntoken+jwt" or head.get("alg") != "ES256" or "crit" in head:
            raise TurnedAway("The assertion is of another kind.")
        key = await self._key_of(issuer, str(head.get("kid", "")))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["ES256"],
                audience=self._origin,
                issuer=issuer,
                leeway=2,
                options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"], "strict_aud": True},
            )
        except jwt.PyJWTError as error:
            raise TurnedAway(f"The assertion is not good: {error}.") from None
        tenant = _tenant_of(issuer) or str(claims.get("tenant", ""))  # an own host is one tenant's, and so is its key
        if claims.get("tenant") != tenant:
            raise TurnedAway("The assertion names another tenant than its issuer.")
        act = claims.get("act")
        agent = str(act.get("sub", "")) if isinstance(act, dict) else str(claims["sub"])
        return Caller(
            tenant=tenant,
            person=str(claims["sub"]),
            agent=agent,
            grant=str(claims.get("grant_id", "")),
            call=str(claims["jti"]),
            operation=str(claims.get("operation", "")),
        )

    async def _key_of(self, issuer: str, kid: str) -> jwt.PyJWK:
        """The tenant's public key. Only our own AgentAuth is asked, whatever an assertion says of its issuer."""
        if not _tenant_of(issuer) and not _own_host_of(issuer):
            raise TurnedAway("The assertion comes from somebody else.")
        async with self._asking:
            asked_at, keys = self._keys.get(issuer, (-_KEYS_LIVE, {}))
            age = time.monotonic() - asked_at
            if age > _KEYS_LIVE or (kid not in keys and age > _ASK_AGAIN):
                keys = await _published_keys(issuer)
                self._keys[issuer] = (time.monotonic(), keys)
        if kid not in keys:
            raise TurnedAway("The assertion is signed with a key that its tenant has not published.")
        return keys[kid]


def _tenant_of(issuer: str) -> str:
    base = settings.KNOBS.base_url
    found = _ISSUER_PATH.match(issuer[len(base) :]) if issuer.startswith(base) else None
    return found[1] if found else ""


def _own_host_of(issuer: str) -> str:
    """The host of an issuer that stands at one of its own: the scheme and port of ours, and no path."""
    base = urlsplit(settings.KNOBS.base_url)
    found = re.fullmatch(rf"{base.scheme}://([a-z0-9.-]+{f':{base.port}' if base.port else ''})", issuer)
    return found[1] if found and found[1] != base.netloc else ""


async def _published_keys(issuer: str) -> dict[str, jwt.PyJWK]:
    host = _own_host_of(issuer)  # asked for at our own AgentAuth: if it knows nobody there, it has no keys
    place, headers = (settings.KNOBS.base_url, {"Host": host}) if host else (issuer, {})
    try:
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.get(f"{place}/oauth/jwks.json", headers=headers, allow_redirects=False) as answer,
        ):
            if host and answer.status in (400, 404):
                raise TurnedAway("The assertion comes from somebody else.")
            if answer.status != 200:
                raise TurnedAway(f"The tenant's keys cannot be read (status {answer.status}).", 503)
            document = await answer.json(content_type=None)
        keys = jwt.PyJWKSet.from_dict(document).keys
    except (aiohttp.ClientError, TimeoutError, ValueError, jwt.PyJWTError):
        raise TurnedAway("The tenant's keys cannot be read.", 503) from None
    return {str(key.key_id): key for key in keys}
