"""Grants at the token endpoint, a file each. What they all share (narrowing, issuing, recording) is in `token.py`.

Adding one here is all it takes for it to be accepted, and advertised.
"""

from agentauth.oauth.grants import authorization_code, client_credentials, refresh_token
from agentauth.oauth.grants.authority import Prove

GRANT_TYPES: dict[str, Prove] = {
    "authorization_code": authorization_code.prove,
    "refresh_token": refresh_token.prove,
    "client_credentials": client_credentials.prove,
}
