"""Runs cases against an adapter. `run_case` gives what was wrong, in words; nothing means that the issuer passes."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conformance.delegation.adapter import Adapter, Answer, Form

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
TOLERANCE = 1  # seconds that an expiry may be rounded by

Case = dict[str, Any]
_KIT: dict[str, Any] = json.loads((Path(__file__).parent / "cases.json").read_text())
WORLD: dict[str, Any] = _KIT["world"]
CASES: list[Case] = _KIT["cases"]


class Wrong(Exception):
    """The issuer did something else than it must."""


def run_case(case: Case, adapter: Adapter) -> str:
    """Empty if the issuer passes. The adapter's world must be fresh. Raises NotThere."""
    try:
        _Run(adapter).steps(case["steps"])
    except Wrong as wrong:
        return f"{case['name']} ({case['section']}): {wrong}"
    return ""


class _Run:
    def __init__(self, adapter: Adapter) -> None:
        self.at = adapter
        self.tokens: dict[str, str] = {}

    def steps(self, steps: list[dict[str, Any]]) -> None:
        acts: dict[str, Callable[[dict[str, Any]], None]] = {
            "issue": self.issue,
            "exchange": self.exchange,
            "introspect": self.introspect,
            "revoke": self.revoke,
            "disable": lambda step: self.at.disable(step["agent"]),
            "end_grant": lambda step: self.at.end_grant(step["agent"], step["person"], step["resource"]),
            "expire": lambda step: self.tokens.update({step["token"]: self.at.expired(self.tokens[step["token"]])}),
            "federate": self.federate,
            "foreign": lambda step: self.tokens.update({step["as"]: self.at.foreign()}),
            "spoil": self.spoil,
        }
        for step in steps:
            acts[step["do"]](step)

    def issue(self, step: dict[str, Any]) -> None:
        scope = [self.at.scope(name) for name in step["scope"].split()]
        self.tokens[step["as"]] = self.at.issue(step["agent"], step["person"], step["resource"], scope)

    def federate(self, step: dict[str, Any]) -> None:
        claims = self.named(step["claims"])
        self.tokens[step["as"]] = self.at.federated(step["person"], step["order"], claims)

    def named(self, value: Any) -> Any:
        """Claims in the words of this issuer: `%a1` is what stands in `act.sub` for that agent."""
        if isinstance(value, dict):
            return {name: self.named(one) for name, one in value.items()}
        return self.at.actor(value[1:]) if isinstance(value, str) and value.startswith("%") else value

    def exchange(self, step: dict[str, Any]) -> None:
        fields: dict[str, Any] = {"subject_token": "$" + step["subject"], "subject_token_type": ACCESS_TOKEN}
        fields |= step.get("with", {})
        form: Form = [("grant_type", GRANT_TYPE)]
        for name, value in fields.items():  # null leaves a parameter out, a list repeats it
            values = value if isinstance(value, list) else [] if value is None else [value]
            form += [(name, self.meant(name, one)) for one in values]
        answer = self.at.post("token", form, client=self.client(step))
        expect = step["expect"]
        if "error" in expect:
            _require_refused(answer, expect["error"])
            return
        if answer.status != 200:
            raise Wrong(f"was refused: {answer.status} {answer.body}")
        self.require_token(answer.body, expect)
        self.tokens[step.get("as", "last")] = answer.body["access_token"]

    def client(self, step: dict[str, Any]) -> tuple[str, str] | None:
        if step["by"] is None:
            return None
        name, secret = self.at.client(step["by"])
        return (name, step.get("secret", secret))

    def meant(self, name: str, value: str) -> str:
        """A value in the words of this issuer: `$t` is a token, `@one` a resource, scopes are translated."""
        if value.startswith("$"):
            return self.tokens[value[1:]]
        if value.startswith("@"):
            resource, mark, fragment = value[1:].partition("#")
            return self.at.resource(resource) + mark + fragment
        return " ".join(self.at.scope(one) for one in value.split()) if name == "scope" else value

    def require_token(self, body: dict[str, Any], expect: dict[str, Any]) -> None:
        """RFC 8693 §2.2.1 and §4.1."""
        if body.get("issued_token_type") != ACCESS_TOKEN:
            raise Wrong(f"issued_token_type is {body.get('issued_token_type')!r}")
        if str(body.get("token_type", "")).lower() != "bearer":
            raise Wrong(f"token_type is {body.get('token_type')!r}")
        if "refresh_token" in body:
            raise Wrong("a refresh token outlives what was delegated")
        claims = self.at.claims(body["access_token"])
        said: dict[str, Any] = {
            "sub": claims.get("sub"),
            "chain": _chain(claims),
            "aud": claims.get("aud"),
            "scope": set(str(claims.get("scope", "")).split()),
        }
        must: dict[str, Any] = {}
        if "sub" in expect:
            must["sub"] = self.at.person(expect["sub"])
        if "chain" in expect:
            # `~name` is an actor of another issuer: its `sub` as that one wrote it
            must["chain"] = [name[1:] if name[0] == "~" else self.at.actor(name) for name in expect["chain"]]
        if "aud" in expect:
            must["aud"] = self.at.resource(expect["aud"])
            said["aud"] = said["aud"][0] if isinstance(said["aud"], list) and len(said["aud"]) == 1 else said["aud"]
        if "scope" in expect:
            must["scope"] = {self.at.scope(name) for name in expect["scope"].split()}
            told = body.get("scope")
            if told is not None and set(told.split()) != said["scope"]:
                raise Wrong(f"the answer says scope {told!r}, the token {sorted(said['scope'])}")
        for name, value in must.items():
            if said[name] != value:
                raise Wrong(f"{name} is {said[name]!r} and must be {value!r}")
        for other in expect.get("ends_with", []):
            if claims["exp"] > self.at.claims(self.tokens[other])["exp"] + TOLERANCE:
                raise Wrong(f"it outlives {other}")
        for other in expect.get("differs_from", []):
            if claims.get("jti") == self.at.claims(self.tokens[other]).get("jti"):
                raise Wrong(f"it is {other} again")

    def introspect(self, step: dict[str, Any]) -> None:
        form = [("token", self.tokens[step["token"]])]
        answer = self.at.post("introspect", form, client=self.client(step))
        if answer.status != 200 or not isinstance(answer.body, dict):
            raise Wrong(f"introspection says {answer.status} {answer.body}")
        if answer.body.get("active") is not step["active"]:
            raise Wrong(f"{step['token']} is {'active' if answer.body.get('active') else 'not active'}")

    def revoke(self, step: dict[str, Any]) -> None:
        answer = self.at.post("revoke", [("token", self.tokens[step["token"]])], client=self.client(step))
        if answer.status != 200:
            raise Wrong(f"revocation says {answer.status}")

    def spoil(self, step: dict[str, Any]) -> None:
        head, payload, signature = self.tokens[step["token"]].split(".")
        if step["how"] == "claims":
            claims = self.at.claims(self.tokens[step["token"]])
            payload = _encoded(claims | {"sub": self.at.person("bob")})
        elif step["how"] == "unsigned":
            head, signature = _encoded(_decoded(head) | {"alg": "none"}), ""
        else:
            signature = signature[:-8] + ("AAAAAAAA" if signature[-8:] != "AAAAAAAA" else "BBBBBBBB")
        self.tokens[step["token"]] = f"{head}.{payload}.{signature}"


def _chain(claims: dict[str, Any]) -> list[str]:
    found, act = [], claims.get("act")
    while isinstance(act, dict):
        found.append(str(act.get("sub")))
        act = act.get("act")
    return found


def _require_refused(answer: Answer, codes: list[str]) -> None:
    body = answer.body if isinstance(answer.body, dict) else {}
    if answer.status not in (400, 401) or body.get("error") not in codes:
        raise Wrong(f"must be refused with {' or '.join(codes)}, and says {answer.status} {body.get('error')!r}")
    if "access_token" in body:
        raise Wrong("a refusal with a token in it")
    if "no-store" not in answer.headers.get("cache-control", ""):
        raise Wrong("the refusal may be stored (RFC 6749 §5.1)")


def _decoded(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def _encoded(value: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
