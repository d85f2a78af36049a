"""The first call of an agent, ready to paste: its real ids, its tenant's real addresses."""

from dataclasses import dataclass

from agentauth.agents.models import Agent, Credential
from agentauth.keys.addresses import issuer, resource_url
from agentauth.resources.models import Operation, Resource
from tenants.models import Tenant


@dataclass(frozen=True, slots=True)
class Snippet:
    key: str
    name: str
    text: str


def quickstart(tenant: Tenant, agent: Agent) -> list[Snippet]:
    """For an agent that runs by itself: token and call. For one that acts for people: where it sends them, and MCP."""
    resources = _reachable(tenant, agent)
    if not resources:
        return []
    rest = next((one for one in resources if one.kind == Resource.Kind.REST), None)
    mcp = next((one for one in resources if one.kind == Resource.Kind.MCP), None)
    snippets = []
    if agent.kind == Agent.Kind.AUTONOMOUS:
        target = rest or resources[0]
        snippets += [Snippet("curl", "curl", _curl(tenant, agent, target)), _python(tenant, agent, target)]
    else:
        if mcp:
            snippets.append(Snippet("mcp", "MCP config", _mcp(tenant, mcp)))
        if rest:
            snippets.append(Snippet("curl", "curl", _ask_person(tenant, agent, rest)))
    return snippets


def _reachable(tenant: Tenant, agent: Agent) -> list[Resource]:
    """Published resources under its ceiling; for one that introduced itself, all."""
    published = Resource.objects.filter(tenant=tenant, state=Resource.State.PUBLISHED)
    published = published.exclude(kind=Resource.Kind.MANAGEMENT).order_by("name")
    if agent.registration == Agent.Registration.ADMIN:
        places = agent.ceiling.values("scope__resource_id")
        published = published.filter(id__in=places)
    return list(published[:20])


def _first_path(resource: Resource) -> str:
    mildest = Operation.objects.filter(resource=resource, method="GET").exclude(scope=None).order_by("path").first()
    return mildest.path if mildest and "{" not in mildest.path else ""


def _scopes(resource: Resource, agent: Agent) -> str:
    names = agent.ceiling.filter(scope__resource=resource).values_list("scope__name", flat=True)
    return " ".join(sorted(names))


def _curl(tenant: Tenant, agent: Agent, resource: Resource) -> str:
    audience, token = resource_url(tenant.slug, resource.slug), f"{issuer(tenant)}/oauth/token"
    proof = f'-u "{agent.client_id}:$AGENTAUTH_CLIENT_SECRET"'
    if _uses_key(agent):
        proof = (
            "-d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \\\n"
            '  -d client_assertion="$ASSERTION"'
        )
    return (
        f"TOKEN=$(curl -s {token} {proof} \\\n"
        f"  -d grant_type=client_credentials -d resource={audience} | jq -r .access_token)\n\n"
        f'curl {audience}{_first_path(resource)} -H "Authorization: Bearer $TOKEN"'
    )


def _python(tenant: Tenant, agent: Agent, resource: Resource) -> Snippet:
    audience, base = resource_url(tenant.slug, resource.slug), issuer(tenant)
    form = f'{{"grant_type": "client_credentials", "resource": "{audience}"'
    if _uses_key(agent):
        text = (
            "import time, uuid, jwt, requests  # pip install pyjwt[crypto] requests\n\n"
            f'issuer, me = "{base}", "{agent.client_id}"\n'
            'claims = {"iss": me, "sub": me, "aud": issuer, "exp": int(time.time()) + 60, "jti": str(uuid.uuid4())}\n'
            'proof = jwt.encode(claims, open("agent-key.pem").read(), "ES256", {"kid": "'
            f'{_kid(agent)}"}})\n'
            f"token = requests.post(issuer + '/oauth/token', data={form},\n"
            '    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",\n'
            '    "client_assertion": proof}).json()["access_token"]\n'
        )
    else:
        text = (
            "import os, requests  # pip install requests\n\n"
            f'token = requests.post("{base}/oauth/token", data={form}}},\n'
            f'    auth=("{agent.client_id}", os.environ["AGENTAUTH_CLIENT_SECRET"])).json()["access_token"]\n'
        )
    call = (
        f'headers = {{"Authorization": f"Bearer {{token}}"}}\nprint(requests.get("{audience}{_first_path(resource)}", '
    )
    call += "headers=headers).text)"
    return Snippet("python", "Python", text + call)


def _mcp(tenant: Tenant, resource: Resource) -> str:
    address = resource_url(tenant.slug, resource.slug)
    return f'{{\n  "mcpServers": {{\n    "{resource.slug}": {{ "type": "http", "url": "{address}" }}\n  }}\n}}'


def _ask_person(tenant: Tenant, agent: Agent, resource: Resource) -> str:
    base, audience = issuer(tenant), resource_url(tenant.slug, resource.slug)
    back = (agent.redirect_uris or ["https://your-agent.example/callback"])[0]
    scopes = _scopes(resource, agent) or "the scopes that you need"
    proof = "" if agent.token_endpoint_auth_method == "none" else f' -u "{agent.client_id}:$AGENTAUTH_CLIENT_SECRET"'
    return (
        "# 1. Send the person here; they choose what to allow (PKCE, RFC 7636)\n"
        f"{base}/oauth/authorize?response_type=code&client_id={agent.client_id}\n"
        f"  &redirect_uri={back}&resource={audience}\n"
        f"  &scope={scopes.replace(' ', '+')}&code_challenge=…&code_challenge_method=S256&state=…\n\n"
        "# 2. Exchange the code that comes back\n"
        f"curl {base}/oauth/token{proof} \\\n"
        "  -d grant_type=authorization_code -d code=$CODE \\\n"
        f"  -d client_id={agent.client_id} -d redirect_uri={back} -d code_verifier=$VERIFIER\n\n"
        "# 3. Call\n"
        f'curl {audience}{_first_path(resource)} -H "Authorization: Bearer $TOKEN"'
    )


def _uses_key(agent: Agent) -> bool:
    return agent.token_endpoint_auth_method == "private_key_jwt"


def _kid(agent: Agent) -> str:
    key = agent.credentials.filter(kind=Credential.Kind.KEY, retired_at=None).order_by("-created_at").first()
    return key.kid if key else "the key's id"
