"""Registering an agent, changing it, and writing the rule of one that runs by itself."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.timezone import now
from django.views.decorators.http import require_http_methods

from agentauth.agents.models import Agent
from agentauth.agents.registering import add_key, add_secret, is_pingable, register_agent, set_ping
from agentauth.console.agent_form import AgentForm, RegisterForm
from agentauth.console.agents import require_agent, to_agent
from agentauth.console.credentials import show_once
from agentauth.grants.granting import NotGrantable, give
from agentauth.grants.models import Permission
from agentauth.resources.ceilings import set_ceiling
from agentauth.resources.models import Resource, Scope
from tenants.access import ADMINS, TenantRequest, tenant_page

YEAR = timedelta(days=365)


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def agent_new(request: TenantRequest) -> HttpResponse:
    if request.method == "GET":
        form = RegisterForm(
            request.tenant,
            request.member,
            initial={
                "kind": request.GET.get("kind", "delegated"),
                "proof": "browser",
                "owner": request.member,
                "valid_until": (now() + YEAR).date(),
            },
        )
        return _new_page(request, form)
    form = RegisterForm(request.tenant, request.member, request.POST)
    if not form.is_valid():
        return _new_page(request, form)
    try:
        with transaction.atomic():
            return _register(request, form)
    except ValidationError as wrong:
        put_errors(form, wrong)
    except NotGrantable as wrong:
        form.add_error(None, str(wrong))
    return _new_page(request, form)


def _register(request: TenantRequest, form: RegisterForm) -> HttpResponse:
    said, method = form.cleaned_data, form.auth_method()
    agent = register_agent(
        request.tenant,
        by=request.member,
        name=said["name"],
        purpose=said["purpose"],
        owner=said["owner"],
        kind=said["kind"],
        auth_method=method,
        valid_until=said["valid_until"],
        redirect_uris=said["redirect_uris"],
        high_assurance=said["high_assurance"],
    )
    scopes = list(said["scopes"])
    set_ceiling(agent, scopes, by=request.member)
    if agent.kind == Agent.Kind.AUTONOMOUS:
        _write_rules(request, agent, scopes)
    messages.success(request, f"{agent.name} has a badge. It opens what somebody grants it, and nothing else.")
    if method == "private_key_jwt":
        add_key(agent, said["jwk"], by=request.member)
    elif method == "client_secret_basic":
        _, secret = add_secret(agent, by=request.member)
        return show_once(request, agent, secret)
    elif method == "workload_identity":
        there = reverse("workload_new", args=[request.tenant.slug, agent.id])
        return HttpResponseRedirect(there, status=303)
    return to_agent(request, agent, "quick")


def _write_rules(request: TenantRequest, agent: Agent, scopes: list[Scope]) -> None:
    """For an agent that acts for itself, what an admin ticked is granted: there is nobody else to ask."""
    ends = min(agent.valid_until or now() + YEAR, now() + YEAR)
    for resource in dict.fromkeys(scope.resource for scope in scopes):
        give(
            agent=agent,
            resource=resource,
            member=None,
            by=request.member,
            permissions={scope: Permission.Mode.ALWAYS.value for scope in scopes if scope.resource_id == resource.id},
            expires_at=ends,
            purpose=agent.purpose,
            ip=request.META.get("REMOTE_ADDR", ""),
        )


def _new_page(request: TenantRequest, form: RegisterForm) -> HttpResponse:
    return render(request, "console/agents/new.html", {"form": form}, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def agent_edit(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    """Name, purpose, owner, end and ceiling."""
    agent = require_agent(request, agent_id)
    initial = _as_is(agent)
    form = AgentForm(
        request.tenant, request.member, request.POST if request.method == "POST" else None, initial=initial
    )
    form.fields["purpose"].required = agent.registration == Agent.Registration.ADMIN
    if not agent.is_approved:
        form.may_have_no_owner()
    if request.method == "GET":
        return _edit_page(request, agent, form)
    if form.is_valid() and _change(request, agent, form):
        messages.success(request, f"{agent.name}’s badge is changed. What it may reach counts from its next call on.")
        return to_agent(request, agent)
    return _edit_page(request, agent, form)


def _edit_page(request: TenantRequest, agent: Agent, form: AgentForm) -> HttpResponse:
    page = {"form": form, "agent": agent, "pingable": is_pingable(agent)}
    return render(request, "console/agents/edit.html", page, status=422 if form.errors else 200)


def _as_is(agent: Agent) -> dict[str, Any]:
    return {
        "id": agent.id,
        "name": agent.name,
        "purpose": agent.purpose,
        "owner": agent.owner,
        "scopes": list(agent.ceiling.values_list("scope_id", flat=True)),
        "redirect_uris": "\n".join(agent.redirect_uris),
        "ping_url": agent.ping_url,
        "valid_until": agent.valid_until.date() if agent.valid_until else None,
    }


def _change(request: TenantRequest, agent: Agent, form: AgentForm) -> bool:
    said = form.cleaned_data
    ends = said["valid_until"]
    if ends is not None and ends != agent.valid_until and not now() < ends <= now() + timedelta(days=367):
        form.add_error("valid_until", "Choose a day after today and within 366 days.")
        return False
    try:
        if is_pingable(agent):
            set_ping(agent, said["ping_url"], by=request.member)
    except ValidationError as wrong:
        put_errors(form, wrong)
        return False
    fields = {name: said[name] for name in ("name", "purpose", "owner", "redirect_uris")}
    if not (ends and agent.valid_until and ends.date() == agent.valid_until.date()):
        fields["valid_until"] = ends
    agent.change(by=request.member, **fields)
    wanted = {scope.id for scope in said["scopes"]}
    if wanted != set(agent.ceiling.values_list("scope_id", flat=True)):
        set_ceiling(agent, list(said["scopes"]), by=request.member)
    return True


class RuleForm(forms.Form):
    """What an agent may do for itself at one resource."""

    scopes = forms.ModelMultipleChoiceField(queryset=Scope.objects.none(), label="What it may do")
    expires_at = forms.DateField(label="Until", widget=forms.DateInput(attrs={"type": "date"}))


@require_http_methods(["GET", "POST"])
@tenant_page(roles=ADMINS)
def agent_rule(request: TenantRequest, agent_id: UUID) -> HttpResponse:
    """The grant of an agent that runs by itself: within its ceiling, a rule for each resource."""
    agent = require_agent(request, agent_id)
    within = Scope.objects.filter(tenant=request.tenant, id__in=agent.ceiling.values("scope_id"))
    within = within.filter(resource__state=Resource.State.PUBLISHED).select_related("resource")
    form = RuleForm(request.POST or None, initial={"expires_at": (now() + YEAR).date()})
    field = form.fields["scopes"]
    assert isinstance(field, forms.ModelMultipleChoiceField)
    field.queryset = within.order_by("resource__name", "words")
    if request.method == "POST" and form.is_valid():
        scopes = list(form.cleaned_data["scopes"])
        ends = now() + (form.cleaned_data["expires_at"] - now().date())
        try:
            with transaction.atomic():
                for resource in dict.fromkeys(scope.resource for scope in scopes):
                    chosen = {scope: "always" for scope in scopes if scope.resource_id == resource.id}
                    give(
                        agent=agent,
                        resource=resource,
                        member=None,
                        by=request.member,
                        permissions=chosen,
                        expires_at=ends,
                        purpose=agent.purpose,
                    )
        except NotGrantable as wrong:
            form.add_error(wrong.field if wrong.field in form.fields else None, str(wrong))
        else:
            messages.success(request, f"The rule stands. {agent.name} needs no restart.")
            return to_agent(request, agent, "behalf")
    page = {"form": form, "agent": agent, "scopes": list(field.queryset)}
    return render(request, "console/agents/rule.html", page, status=422 if form.errors else 200)


def put_errors(form: forms.Form, wrong: ValidationError) -> None:
    """What a verb refused, said at the field it is about."""
    fields = wrong.message_dict if hasattr(wrong, "error_dict") else {"__all__": wrong.messages}
    for field, texts in fields.items():
        for text in texts:
            form.add_error(field if field in form.fields else None, text)
