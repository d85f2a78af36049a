"""Grants at the token endpoint, a file each. What they all share (narrowing, issuing, recording) is in `token.py`.

Adding one here is all it takes for it to be accepted, and advertised.
"""

from agentauth.oauth.grants import (
    authorization_code,
    backchannel,
    client_credentials,
    device_code,
    jwt_bearer,
    refresh_token,
    token_exchange,
)
from agentauth.oauth.grants.authority import Prove

GRANT_TYPES: dict[str, Prove] = {
    "authorization_code": authorization_code.prove,
    "refresh_token": refresh_token.prove,
    "client_credentials": client_credentials.prove,
    device_code.GRANT_TYPE: device_code.prove,
    backchannel.GRANT_TYPE: backchannel.prove,
    token_exchange.GRANT_TYPE: token_exchange.prove,
    jwt_bearer.GRANT_TYPE: jwt_bearer.prove,
}
