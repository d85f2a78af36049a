"""Authorization endpoint (OAuth 2.1 §3.1, §4.1): a client sends its person here to be allowed something."""

from typing import Any
from urllib.parse import urlsplit

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.encoding import iri_to_uri
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from agentauth.agents.introducing import is_answered_for
from agentauth.agents.models import Agent
from agentauth.grants.granting import live_grant
from agentauth.grants.models import Grant
from agentauth.oauth.authorization_request import (
    AuthorizationRequest,
    answer_address,
    error_address,
    offered,
    read_request,
    resource_of,
    settle_destination,
)
from agentauth.oauth.client_document import client_of_document, looks_like_document, needs_reading
from agentauth.oauth.codes import write_code
from agentauth.oauth.consent_page import show_consent
from agentauth.oauth.disclosures import disclosed, personal
from agentauth.oauth.door import Call, caller, read_body, record_refusal
from agentauth.oauth.errors import (
    ApprovalFirst,
    ConsentRequired,
    InvalidClient,
    InvalidRequestUri,
    LoginRequired,
    OAuthError,
    SecondFactorMissing,
)
from agentauth.oauth.high_assurance import require_pushed
from agentauth.oauth.models import PushedRequest
from agentauth.oauth.pages import WITHOUT_SCRIPT, refused, seen
from agentauth.oauth.parameters import Parameters, form_text, from_query
from agentauth.oauth.pushed_requests import claim, is_pushed, parameters_of, spend, used_before
from agentauth.oauth.redirect_uris import shown_host
from agentauth.oauth.self_registration import became_another
from agentauth.oauth.session import browser_mark, forget_sign_in, require_way_back, to_sign_in
from agentauth.oauth.set_up_first import told_to_set_up
from agentauth.oauth.step_up import sign_in_for, step_up
from agentauth.oauth.waiting import told_to_wait
from agentauth.resources.models import Scope
from audit.actions import Action
from tenants.access import require_tenant
from tenants.models import Member, Tenant, User
from tenants.rls import in_tenant


@csrf_exempt  # a POST only becomes a GET; nothing is done for it
@never_cache
def authorize(request: HttpRequest, tenant: str) -> HttpResponse:
    here = require_tenant(tenant)
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD, POST"})
    call = Call(tenant=here, ip=caller(request))
    user = request.user if isinstance(request.user, User) else None
    pushed = None
    try:
        if request.method == "POST":
            return _as_get(request)
        require_way_back(request)
        asked = from_query(request.META.get("QUERY_STRING", ""))
        client = _client(asked, call, user)
        if client is None:
            return to_sign_in(request)
        call.client = client
        if is_pushed(asked):
            with in_tenant(here.id):
                pushed = claim(asked["request_uri"], client, browser_mark(request))
            asked = parameters_of(pushed, beside=asked)
        to = settle_destination(asked, client)
    except OAuthError as error:
        _note_refusal(call, error, pushed)
        return refused(request, here, error)
    try:
        with in_tenant(here.id):
            require_pushed(client, is_pushed=pushed is not None)
            wanted = read_request(asked, to, client, here)
        return _answer(request, call, client, wanted, user, pushed=pushed)
    except OAuthError as error:
        silent = "none" in asked.get("prompt", "")
        if user is None and not silent and not is_answered_for(client):
            return to_sign_in(request)  # RFC 9700 §4.11.2: anybody may have registered it, and where it leads
        first = _note_refusal(call, error, pushed)
        if isinstance(error, InvalidRequestUri) or not first:  # whoever had its answer gets no second one
            return refused(request, here, error if first else used_before())
        if isinstance(error, ApprovalFirst) and not silent:
            with in_tenant(here.id):
                return told_to_wait(request, here, client, to, error)
        if isinstance(error, SecondFactorMissing) and not silent:
            return told_to_set_up(request, here, client, to, error)
        return _leave(request, error_address(to, here, error), client)


def _note_refusal(call: Call, error: OAuthError, pushed: PushedRequest | None) -> bool:
    """On record; and a request that was pushed has had its answer. False if it had one before."""
    with in_tenant(call.tenant.id):
        record_refusal(call, error, Action.AUTHORIZATION_REFUSED)
        return spend(pushed)


def _answer(
    request: HttpRequest,
    call: Call,
    client: Agent,
    asked: AuthorizationRequest,
    user: User | None,
    *,
    pushed: PushedRequest | None,
) -> HttpResponse:
    """Sign in, ask, or go straight back. `prompt=none` shows nothing (OpenID Connect Core §3.1.2.1)."""
    silent = "none" in asked.prompt
    if user is None or not user.is_active:
        if silent:
            raise LoginRequired("Nobody has signed in here.")
        return to_sign_in(request, anew=asked.wants_new_sign_in)
    away = step_up(request, user, asked, silent=silent)
    if away is not None:
        return away
    sign_in = sign_in_for(request, user, asked)
    forget_sign_in(request)
    with in_tenant(call.tenant.id):
        if not spend(pushed):
            raise used_before()
        member = _member(call.tenant, user)
        if member is None:
            if silent:
                raise LoginRequired("Nobody of this organisation has signed in here.")
            return _stranger(request, call.tenant)
        if asked.person not in ("", str(member.id)):
            raise LoginRequired("Somebody else has signed in here.", reason="another_person")
        resource = resource_of(asked, call.tenant)
        scopes = offered(asked, client, resource, member)
        grant = live_grant(client, resource, member)
        another = bool(asked.login_hint) and asked.login_hint.lower() not in (user.email.lower(), str(member.id))
        if grant is not None and not another and _is_covered(asked, client, scopes, grant):
            code = write_code(asked, grant, sign_in)
            return _leave(request, answer_address(asked.to, call.tenant, [("code", code)]), client)
        if silent:
            raise (
                LoginRequired("Somebody else has signed in here.")
                if another
                else ConsentRequired("Nobody was asked yet.")
            )
        return show_consent(
            request,
            call.tenant,
            member=member,
            client=client,
            asked=asked,
            scopes=scopes,
            grant=grant,
            sign_in=sign_in,
        )


def _is_covered(asked: AuthorizationRequest, client: Agent, scopes: list[Scope], grant: Grant) -> bool:
    """Was all of this said yes or never to before, to this very client? Anything that grew is asked about again."""
    if {"consent", "select_account"} & set(asked.prompt):
        return False
    said: dict[Any, str] = dict(grant.permissions.values_list("scope_id", "mode"))
    if all(mode == "never" for mode in said.values()):
        return False
    if grant.member_id is None or not personal(asked) <= disclosed(client, grant.member_id):
        return False
    if became_another(client, grant):
        return False
    # Everybody knows the client_id of a public document, and any program can wait on this computer: nothing proves
    # that it is the same one, so the person says so each time (RFC 8252 §8.6)
    shared = client.registration == Agent.Registration.DOCUMENT and client.token_endpoint_auth_method == "none"
    if shared and not asked.to.redirect_uri.startswith("https://"):
        return False
    if asked.authorization_details:  # one call: nothing to ask only where every such call goes through anyway
        return all(said.get(scope.id) == "always" for scope in scopes)
    return not asked.scope or all(scope.id in said for scope in scopes)


def _client(asked: Parameters, call: Call, user: User | None) -> Agent | None:
    """Who asks. None: their document must be read first, and we go out for nobody who has not signed in."""
    if "client_id" in asked.flaws:
        raise asked.flaws["client_id"]
    client_id = asked.require("client_id")
    with in_tenant(call.tenant.id):
        known = Agent.objects.filter(tenant=call.tenant, client_id=client_id).first()
        inside = user is not None and _member(call.tenant, user) is not None
    if known is not None and known.state == Agent.State.RETIRED:  # nobody is sent on to who is gone
        call.client = known
        raise InvalidClient("The client is not known.", reason="agent_retired")
    if not looks_like_document(client_id):
        if known is None:
            raise InvalidClient("The client is not known.", reason="unknown_client")
        return known
    if known is None and not call.tenant.open_registration:
        raise InvalidClient("This organisation registers its clients itself.", reason="registration_closed")
    if not needs_reading(known):
        return known
    if not inside:
        return known if user is not None else None
    return client_of_document(call.tenant, client_id, known, ip=call.ip)


def _member(tenant: Tenant, user: User) -> Member | None:
    found = Member.objects.select_related("user").filter(tenant=tenant, user=user, deactivated_at=None)
    return found.first() if user.is_active else None


def _as_get(request: HttpRequest) -> HttpResponse:
    """OpenID Connect Core §3.1.2.1 wants POST too: the browser comes again by GET, then with its cookie."""
    form = form_text(read_body(request), request.headers.get("Content-Type", ""))
    return seen(f"{request.path}?{iri_to_uri(form).replace('#', '%23')}")


def _leave(request: HttpRequest, url: str, client: Agent) -> HttpResponse:
    """Back to the client. After our own sign-in form by way of a page, since a browser holds that form's policy
    (`form-action`) against every redirect that follows it."""
    came_from = urlsplit(request.headers.get("Referer", ""))
    if came_from.netloc == request.get_host() and came_from.path.startswith("/account/"):
        page = render(request, "oauth/onward.html", {"url": url, "client": client, "host": shown_host(url)})
        page["Refresh"] = f"0;url={url}"
        page["Content-Security-Policy"] = WITHOUT_SCRIPT
        return page
    return seen(url)


def _stranger(request: HttpRequest, tenant: Tenant) -> HttpResponse:
    if not isinstance(request.user, User):
        raise Http404
    page = render(request, "oauth/stranger.html", {"organisation": tenant, "who": request.user}, status=403)
    page["Content-Security-Policy"] = WITHOUT_SCRIPT
    return page
