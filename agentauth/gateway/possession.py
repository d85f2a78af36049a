"""That the caller holds the key which its token is bound to (RFC 9449 §7). The ledger has each proof count once."""

import time

from django.conf import settings

from agentauth.gateway.request import Request
from agentauth.gateway.snapshot import Resource
from agentauth.gateway.who import Principal, TokenRefused
from agentauth.oauth.dpop import Proof, read_proof
from agentauth.oauth.errors import InvalidDPoPProof
from agentauth.policy.decision import Reason


def require_possession(request: Request, token: bytes, who: Principal, resource: Resource) -> Proof | None:
    """The proof of this request; None for a token that is bound to nothing. Raises TokenRefused, UseDPoPNonce.

    §7.2: a bound token is nothing to its bearer alone, and one that is bound to nothing does not pass for bound.
    """
    if not request.is_dpop:
        if who.jkt:
            raise TokenRefused(Reason.PROOF_MISSING)
        if resource.bound_tokens_only:
            raise TokenRefused(Reason.BOUND_TOKENS_ONLY)
        return None
    if not who.jkt:
        raise TokenRefused(Reason.TOKEN_NOT_BOUND)
    found = [value for name, value in request.headers if name.lower() == b"dpop"]
    if not found:
        raise TokenRefused(Reason.PROOF_MISSING)
    if len(found) > 1:  # §4.3 no. 1
        raise TokenRefused(Reason.PROOF_INVALID, "Send one DPoP header.")
    url = settings.KNOBS.gateway_url + request.raw_path.decode("latin-1")
    try:
        proof = read_proof(
            found[0].decode("latin-1").strip(), method=request.method, url=url, now=time.time(), token=token.decode()
        )
    except InvalidDPoPProof as wrong:
        raise TokenRefused(Reason.PROOF_INVALID, wrong.description) from None
    if proof.jkt != who.jkt:  # §7.1
        raise TokenRefused(Reason.PROOF_INVALID, "The proof is by another key than the one that the token is bound to.")
    return proof
