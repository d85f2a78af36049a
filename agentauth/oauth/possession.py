"""Which key a request to the authorization server proves to hold (RFC 9449 §5, §10.1): what it gets is bound to it."""

import time
from dataclasses import dataclass

from agentauth.agents.models import Agent
from agentauth.keys.addresses import issuer
from agentauth.oauth.door import Call
from agentauth.oauth.dpop import Proof, read_proof
from agentauth.oauth.errors import InvalidDPoPProof
from agentauth.oauth.high_assurance import require_strong_proof
from agentauth.oauth.spent import spend_once
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
