"""Trusting another issuer: what is written down about it, checked. Its keys are looked at by `oauth.trust.looking`."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import transaction

from agentauth.agents.models import RISKS
from agentauth.agents.trusted import ALGORITHMS, TrustedIssuer
from audit.actions import Action
from tenants.models import Member, Tenant

Kind, KeysFrom = TrustedIssuer.Kind, TrustedIssuer.KeysFrom
LONGEST_GRANT = 366  # days
_TRUST_DOMAIN = re.compile(r"spiffe://[a-z0-9._-]{1,255}\Z")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}\Z")


def trust_issuer(
    tenant: Tenant,
    *,
    by: Member,
    kind: str,
    name: str,
    issuer: str,
    keys_from: str = KeysFrom.DISCOVERY,
    jwks_uri: str = "",
    jwks: dict[str, Any] | None = None,
    algorithms: Iterable[str] = ALGORITHMS,
    audience: str = "",
    email_domains: Iterable[str] = (),
    ceiling_risk: str = "change",
    grant_days: int = 30,
    act_order: str = "",
) -> TrustedIssuer:
    """Believe `issuer` from now on. Raises ValidationError with the field's name. In the tenant's transaction."""
    wrong: dict[str, str] = {}
    if kind not in Kind.values:
        wrong["kind"] = f"Use one of {', '.join(Kind.values)}."
    if not 0 < len(name.strip()) <= 80 or not name.strip().isprintable():
        wrong["name"] = "Give it a name of at most 80 characters, in one line of plain text."
    if complaint := _about_issuer(kind, issuer):
        wrong["issuer"] = complaint
    if keys_from not in KeysFrom.values or (kind == Kind.SPIFFE and keys_from == KeysFrom.DISCOVERY):
        wrong["keys_from"] = (
            "A trust domain has a bundle address, or its bundle is pasted."
            if kind == Kind.SPIFFE
            else f"Use one of {', '.join(KeysFrom.values)}."
        )
    if (keys_from == KeysFrom.ADDRESS) != bool(jwks_uri):
        wrong["jwks_uri"] = "Give the address of the key set." if not jwks_uri else "Leave this out, or use address."
    if (keys_from == KeysFrom.PASTED) != (jwks is not None):
        wrong["jwks"] = "Paste the key set." if jwks is None else "Leave this out, or use pasted."
    allowed = tuple(dict.fromkeys(algorithms))
    if not allowed or not set(allowed) <= set(ALGORITHMS):
        wrong["algorithms"] = f"Choose among {', '.join(ALGORITHMS)}."
    domains = tuple(dict.fromkeys(domain.strip().lower().removeprefix("@") for domain in email_domains))
    if not all(_DOMAIN.match(domain) for domain in domains) or len(domains) > 50:
        wrong["email_domains"] = "Write domains such as acme.example, 50 at most."
    if ceiling_risk not in RISKS:
        wrong["ceiling_risk"] = f"Use one of {', '.join(RISKS)}."
    if not 1 <= grant_days <= LONGEST_GRANT:
        wrong["grant_days"] = f"Choose between 1 and {LONGEST_GRANT} days."
    if act_order not in TrustedIssuer.ActOrder.values or (act_order and kind != Kind.ENTERPRISE):
        wrong["act_order"] = "Use standard or reversed, of an identity provider only; or leave it empty."
    if audience and (len(audience) > 500 or not audience.isprintable()):
        wrong["audience"] = "An audience is text of at most 500 characters."
    if not wrong and TrustedIssuer.objects.filter(tenant=tenant, kind=kind, issuer=issuer, removed_at=None).exists():
        wrong["issuer"] = "This issuer is on the list already."
    if wrong:
        raise ValidationError(wrong)
    trusted = TrustedIssuer(
        tenant=tenant,
        kind=kind,
        name=name.strip(),
        issuer=issuer,
        keys_from=keys_from,
        jwks_uri=jwks_uri,
        jwks=jwks,
        algorithms=list(allowed),
        audience=audience,
        email_domains=list(domains),
        ceiling_risk=ceiling_risk,
        grant_days=grant_days,
        act_order=act_order,
        created_by=by,
    )
    with transaction.atomic():
        trusted.save(force_insert=True)
        trusted.write_down(Action.ISSUER_TRUSTED, by, {"keys_from": keys_from, "ceiling": ceiling_risk})
    return trusted


def try_trusting(tenant: Tenant, *, by: Member, **said: Any) -> None:
    """Complain as `trust_issuer` would, before anybody is asked for keys. Nothing is written, and no lock is held."""
    with transaction.atomic():
        trust_issuer(tenant, by=by, **said)
        transaction.set_rollback(True)


def _about_issuer(kind: str, issuer: str) -> str:
    """What is wrong with it, in words; nothing if it is one. Compared as text later, so nothing is tidied here."""
    if kind == Kind.SPIFFE:
        return "" if _TRUST_DOMAIN.match(issuer) else "A trust domain is written spiffe://example.org, without a path."
    try:
        parts = urlsplit(issuer)
        sound = parts.scheme in ("https", "http") and parts.hostname and not (parts.query or parts.fragment)
    except ValueError:
        sound = False
    if not sound or len(issuer) > 500 or not issuer.isascii() or not issuer.isprintable() or " " in issuer:
        return "An issuer is a web address without ? and #, exactly as it stands in “iss” of its tokens."
    return ""
