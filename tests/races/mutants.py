"""The product with one lock or one check taken out, in a process of its own (`beside.py`): each must be caught.

A mutant is a function that takes it out and returns one that puts it back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

Cure = Callable[[], None]


def _patched(*changes: tuple[Any, str, Any]) -> Callable[[], Cure]:
    """Each a module or class, a name in it, and what stands there instead."""

    def become() -> Cure:
        patches = [mock.patch.object(*change) for change in changes]
        for patch in patches:
            patch.start()

        def cure() -> None:
            for patch in patches:
                patch.stop()

        return cure

    return become


def _no_change() -> Cure:
    return lambda: None


def _code() -> Cure:
    from agentauth.oauth.grants import authorization_code
    from agentauth.oauth.models import AuthorizationCode
    from tenants.models import secret_hash

    def find(code: str, client: Any) -> Any:
        rows = AuthorizationCode.objects.filter(tenant_id=client.tenant_id, code_hash=secret_hash(code))
        return rows.select_related("grant__member__user", "grant__resource").get()

    return _patched((authorization_code, "find", find))()


def _refresh() -> Cure:
    from agentauth.oauth.grants import refresh_token
    from agentauth.oauth.models import RefreshToken
    from tenants.models import secret_hash

    def find(token: str, client: Any) -> Any:
        rows = RefreshToken.objects.filter(tenant_id=client.tenant_id, token_hash=secret_hash(token))
        return rows.select_related("grant__member__user", "grant__resource").get()

    return _patched((refresh_token, "find", find))()


def _device() -> Cure:
    from agentauth.oauth.grants import device_code
    from agentauth.oauth.models import DeviceRequest
    from tenants.models import secret_hash

    def find(code: str, client: Any) -> Any:
        rows = DeviceRequest.objects.filter(tenant_id=client.tenant_id, device_hash=secret_hash(code))
        return rows.select_related("grant__member__user", "grant__resource").get()

    return _patched((device_code, "find", find))()


def _ciba() -> Cure:
    from agentauth.oauth.grants import backchannel
    from agentauth.oauth.models import BackchannelRequest
    from tenants.models import secret_hash

    def find(asked: str, client: Any) -> Any:
        rows = BackchannelRequest.objects.filter(tenant_id=client.tenant_id, auth_req_hash=secret_hash(asked))
        return rows.select_related("grant__member__user", "grant__resource").get()

    return _patched((backchannel, "find", find))()


def _pushed() -> Cure:
    from django.utils.timezone import now

    from agentauth.oauth import authorize
    from agentauth.oauth.models import PushedRequest

    def spend(row: Any) -> bool:
        if row is not None:
            PushedRequest.objects.filter(tenant_id=row.tenant_id, pk=row.pk).update(spent_at=now())
        return True

    return _patched((authorize, "spend", spend))()


def _look_first(only: str) -> Callable[[], Cure]:
    """What is spent in this way is looked for before it is written, so that several find nothing at one moment."""

    def become() -> Cure:
        from agentauth.oauth.models import SpentOnce
        from agentauth.oauth.spent import spend_once

        def look(tenant_id: Any, kind: str, mark: bytes, ends: Any) -> bool:
            if kind != only:
                return spend_once(tenant_id, kind, mark, ends)
            is_new = not SpentOnce.objects.filter(tenant_id=tenant_id, kind=kind, value_hash=mark).exists()
            if is_new:
                spend_once(tenant_id, kind, mark, ends)
            return is_new

        return _everywhere(look)

    return become


def _forget(only: str) -> Callable[[], Cure]:
    """What is spent in this way is never spent. For what a lock of its own protects from others at one moment."""

    def become() -> Cure:
        from agentauth.oauth.spent import spend_once

        def forget(tenant_id: Any, kind: str, mark: bytes, ends: Any) -> bool:
            return kind == only or spend_once(tenant_id, kind, mark, ends)

        return _everywhere(forget)

    return become


def _everywhere(instead: Any) -> Cure:
    """In every module that spends."""
    from agentauth.oauth.spent import spend_once

    rooms = [module for name, module in sys.modules.items() if name.startswith("agentauth.oauth.")]
    spending = [module for module in rooms if vars(module).get("spend_once") is spend_once]
    assert len(spending) > 1
    return _patched(*((module, "spend_once", instead) for module in spending))()


def _invitation() -> Cure:
    from tenants import inviting
    from tenants.models import secret_hash

    def find(tenant: Any, token: str) -> Any:
        return inviting.open_invitations(tenant).filter(token_hash=secret_hash(token)).first()

    return _patched((inviting, "find_invitation", find))()


def _sign_in_link() -> Cure:
    from django.utils.timezone import now

    from tenants.models import SignInLink, secret_hash

    def redeem(token: str) -> Any:
        link = SignInLink.objects.select_related("user").filter(token_hash=secret_hash(token), used_at=None).first()
        if link is None:
            return None
        link.used_at = now()
        link.save(update_fields=["used_at"])
        return link.user

    return _patched((SignInLink, "redeem", staticmethod(redeem)))()


def _gateway_proof() -> Cure:
    from agentauth.gateway import admitting

    every = (
        "WITH asked AS (SELECT %s::uuid AS tenant) SELECT id FROM asked, "
        "unnest(%s::uuid[], %s::bytea[], %s::timestamptz[]) AS one (id, mark, ends) WHERE %s::uuid IS NOT NULL"
    )
    return _patched((admitting, "_SPEND_PROOFS", every))()


def _approval() -> Cure:
    from agentauth.gateway import admitting

    unlocked = admitting._APPROVALS.removesuffix(" FOR UPDATE")
    assert unlocked != admitting._APPROVALS
    no_lock = "SELECT 1 WHERE %s::uuid IS NOT NULL AND %s::uuid IS NOT NULL"
    return _patched((admitting, "_LOCK_GRANT", no_lock), (admitting, "_APPROVALS", unlocked))()


MUTANTS: dict[str, Callable[[], Cure]] = {
    "": _no_change,  # sound
    "code": _code,
    "refresh": _refresh,
    "device": _device,
    "ciba": _ciba,
    "par": _pushed,
    "assertion": _look_first("assertion"),
    "proof": _look_first("dpop"),
    "id-jag": _forget("id_jag"),
    "consent": _look_first("consent"),
    "invitation": _invitation,
    "sign-in-link": _sign_in_link,
    "gateway-proof": _gateway_proof,
    "approval": _approval,
}
