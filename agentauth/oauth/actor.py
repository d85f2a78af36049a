"""Who may act (RFC 8693 §2.1, §4.4): the actor of an exchange is the client that proves itself, and nobody else."""

from typing import Any

from agentauth.agents.models import Agent
from agentauth.keys.addresses import issuer
from agentauth.oauth.errors import InvalidGrant, InvalidRequest
from agentauth.oauth.own_token import agents_of, read_own_token
from agentauth.oauth.parameters import Parameters

_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


def require_own_actor(asked: Parameters, client: Agent, sub: str) -> None:
    """An actor token says nothing new: it must be this very client's, for itself or for the same person (§2.1)."""
    if ("actor_token" in asked) != ("actor_token_type" in asked):
        raise InvalidRequest("actor_token and actor_token_type go together.", reason="actor_token_type")
    if "actor_token" not in asked:
        return
    if asked["actor_token_type"] != _ACCESS_TOKEN:
        raise InvalidRequest("The actor_token must be an access token.", reason="actor_token_type")
    claims = read_own_token(client.tenant, asked["actor_token"])
    if claims is None or "cnf" in claims:
        raise InvalidRequest("The actor_token is not good.", reason="actor_token_void")
    if claims["client_id"] != client.client_id or agents_of(claims)[0] != str(client.id):
        raise InvalidRequest("The actor_token is of another client.", reason="rogue_actor")
    if claims["sub"] not in (str(client.id), sub):
        raise InvalidRequest("The actor_token is for somebody else.", reason="rogue_actor")


def require_may_act(claims: dict[str, Any], client: Agent) -> None:
    """§4.4: where the subject token says who may act, nobody else may. It allows nothing by itself: a grant does."""
    if "may_act" not in claims:
        return
    said = claims["may_act"]
    us = issuer(client.tenant)
    mine = {"sub": {str(client.id), client.client_id}, "client_id": {client.client_id}, "iss": {us}}
    names = isinstance(said, dict) and ("sub" in said or "client_id" in said)
    if not names or not all(isinstance(said[name], str) and said[name] in mine[name] for name in mine if name in said):
        raise InvalidGrant("may_act in the subject_token names another actor.", reason="may_not_act")
