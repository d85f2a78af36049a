"""Which key a request to this server proves to hold (RFC 9449): what a client gets is bound to it, and asks for it."""

import time
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from agentauth.agents.models import Agent
from agentauth.keys.addresses import issuer
from agentauth.oauth.door import Call
from agentauth.oauth.dpop import ALGORITHMS, Proof, fresh_nonce, read_proof
from agentauth.oauth.errors import InvalidDPoPProof
from agentauth.oauth.high_assurance import require_strong_proof
from agentauth.oauth.spent import spend_once
from agentauth.policy.decision import Reason
from tenants.models import Tenant
from tenants.rls import in_tenant


@dataclass(frozen=True, slots=True)
class Shown:
    """What the DPoP header holds, read but not used up; `wrong` is told once we know who asks."""

    proof: Proof | None = None
    wrong: InvalidDPoPProof | None = None


def read_possession(call: Call, endpoint: str) -> Shown:
    """Before the client is authenticated: UseDPoPNonce costs it no client assertion and no code (§8)."""
    if not call.dpop:
        return Shown()
    url = f"{issuer(call.tenant)}/oauth/{endpoint}"
    try:
        return Shown(read_proof(call.dpop, method="POST", url=url, now=time.time()))
    except InvalidDPoPProof as wrong:
        return Shown(wrong=wrong)


def prove_possession(call: Call, client: Agent, shown: Shown, *, needed: bool = True) -> None:
    """Puts the proven key into `call.jkt`. Uses up the proof, in a transaction of its own (§11.1).

    `needed`: a client that registered for bound tokens must have sent one (§5.2).
    """
    if shown.wrong is not None:
        raise shown.wrong
    if shown.proof is None:
        if needed and (client.dpop_bound_access_tokens or client.high_assurance):
            raise InvalidDPoPProof("This client gets bound tokens only. Send a DPoP proof.", reason="proof_missing")
        return
    require_strong_proof(client, shown.proof.alg)
    with in_tenant(call.tenant.id):
        if not spend_once(call.tenant.id, "dpop", shown.proof.mark, shown.proof.expires):
            raise InvalidDPoPProof("This proof was used before.", reason="proof_replayed")
    call.jkt = shown.proof.jkt


class WrongScheme(Exception):
    """A bound token came as a bearer token, or one that is bound to nothing came with a proof (§7.2)."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.words)
        self.reason = reason


def require_holder(
    tenant: Tenant, claims: dict[str, Any], token: str, *, is_dpop: bool, proof: str, method: str, url: str
) -> None:
    """That who sends us a good access token of ours holds the key which it is bound to (§7.1).

    `is_dpop`: it came under that scheme; `proof` is what stood in the DPoP header. In the tenant's transaction; uses up
    the proof. Raises WrongScheme, InvalidDPoPProof, UseDPoPNonce.
    """
    bound_to = (claims.get("cnf") or {}).get("jkt")
    if is_dpop != ("cnf" in claims):
        raise WrongScheme(Reason.PROOF_MISSING if bound_to else Reason.TOKEN_NOT_BOUND)
    if "cnf" not in claims:
        return
    read = read_proof(proof, method=method, url=url, now=time.time(), token=token)
    if read.jkt != bound_to:
        raise InvalidDPoPProof("The proof is by another key than the token is bound to.", reason="proof_key")
    if not spend_once(tenant.id, "dpop", read.mark, read.expires):
        raise InvalidDPoPProof("This proof was used before.", reason="proof_replayed")


def nonce_header(request: HttpRequest) -> dict[str, str]:
    """The nonce for the next proof, with every answer to a proof (§8.2)."""
    return {"DPoP-Nonce": fresh_nonce(time.time())} if "DPoP" in request.headers else {}


def challenge(error: str = "", description: str = "") -> str:
    """What WWW-Authenticate says of this scheme (§7.1). `description` is plain ASCII without quotes."""
    parts = [f'algs="{" ".join(ALGORITHMS)}"']
    parts += [f'error="{error}"'] if error else []
    parts += [f'error_description="{description}"'] if description else []
    return "DPoP " + ", ".join(parts)
