"""Pushed authorization request endpoint (RFC 9126 §2): a client sends ahead, and proves, what it will ask a person."""

from agentauth.oauth.authorization_request import read_request, settle_destination
from agentauth.oauth.client_authentication import authenticate_client
from agentauth.oauth.door import Answer, Call, oauth_endpoint
from agentauth.oauth.errors import InvalidDPoPProof, InvalidRequest
from agentauth.oauth.high_assurance import require_whole
from agentauth.oauth.parameters import from_form
from agentauth.oauth.possession import prove_possession, read_possession
from agentauth.oauth.pushed_requests import SECONDS, keep
from audit.actions import Action
from tenants.rls import in_tenant


@oauth_endpoint(refused=Action.AUTHORIZATION_REFUSED)
def par(call: Call) -> Answer:
    asked = from_form(call.body, call.content_type)
    shown = read_possession(call, "par")  # RFC 9449 §10.1
    client = authenticate_client(call, asked)  # §2: as at the token endpoint
    prove_possession(call, client, shown, needed=False)
    asked.require("client_id")  # §2.1: as in every authorization request, however the client proves itself
    if "request_uri" in asked:  # §2.1: MUST NOT be provided
        raise InvalidRequest("A pushed request holds no request_uri.", reason="request_uri_pushed")
    require_whole(client, asked)
    to = settle_destination(asked, client)
    with in_tenant(call.tenant.id):
        wanted = read_request(asked, to, client, call.tenant)  # §2.1: what would be refused later is refused now
        if call.jkt and wanted.dpop_jkt not in ("", call.jkt):  # RFC 9449 §10.1
            raise InvalidDPoPProof("dpop_jkt names another key than the proof.", reason="bound_to_another_key")
        bound = {"dpop_jkt": call.jkt} if call.jkt else {}
        return Answer({"request_uri": keep(asked, client, **bound), "expires_in": SECONDS}, 201)
