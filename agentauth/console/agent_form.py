"""The form of an agent: what people read on its badge, who answers for it, what it may ever reach."""

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from django import forms

from agentauth.agents.assurance import KEY_ALONE
from agentauth.agents.models import RISKS, Agent
from agentauth.console.pasted_key import NotAKey, public_jwk
from agentauth.oauth.errors import InvalidRedirectUri
from agentauth.oauth.redirect_uris import require_registrable
from agentauth.resources.models import Resource, Scope
from tenants.models import Member, Tenant

KINDS = (
    ("delegated", "It acts for a person", "Someone says yes on their phone; it can do what they allowed, no more.",
     "authorization code, PKCE"),
    ("autonomous", "It runs by itself", "A job, a server, a nightly run. Your rule takes the place of a person.",
     "client credentials"),
    ("mcp", "It is an MCP client", "Most introduce themselves and wait in the list. This is for one that cannot.",
     "authorization code, PKCE"),
)  # fmt: skip
PROOFS = (
    ("browser", "Make a key in this browser", "The private half never reaches us. Best.", "private_key_jwt"),
    ("paste", "I have a public key", "PEM or JWK.", "private_key_jwt"),
    ("secret", "A secret", "Shown once. Easier to lose.", "client_secret_basic"),
    ("workload", "By where it runs", "GitHub, Kubernetes … You say where on the next page.", "workload_identity"),
    ("none", "It cannot keep one", "A program on people’s own machines. PKCE alone.", "none"),
)  # fmt: skip
RISK_WORDS = {"read": "Read", "change": "Change", "dangerous": "Dangerous"}


@dataclass(frozen=True, slots=True)
class Group:
    """The scopes of one risk class at one resource."""

    risk: str
    words: str
    scopes: list[tuple[Scope, bool]]


@dataclass(frozen=True, slots=True)
class Place:
    resource: Resource
    groups: list[Group]
    ticked: int


class AgentForm(forms.Form):
    """What may be changed later too. `kind` and proof are only asked at registration, by `RegisterForm`."""

    name = forms.CharField(
        max_length=80,
        help_text="What people will read when it asks them for something.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    purpose = forms.CharField(
        max_length=200,
        help_text="One sentence. It appears on the badge and in every record.",
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    owner = forms.ModelChoiceField(
        queryset=Member.objects.none(),
        empty_label=None,
        error_messages={"invalid_choice": "Choose somebody from the list who is an active member."},
        help_text="A person who answers for it. If they leave, it stops.",
    )
    scopes = forms.ModelMultipleChoiceField(
        queryset=Scope.objects.none(),
        required=False,
        label="What it may ever reach",
        error_messages={
            "invalid_choice": "Something that you chose is no longer published. Look at the list again.",
            "invalid_pk_value": "Something that you chose is no longer published. Look at the list again.",
        },
    )
    redirect_uris = forms.CharField(
        label="Redirect addresses",
        required=False,
        help_text="One a line. Where people return to after they said yes: https, or http on 127.0.0.1 for programs.",
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "class": "mono"}),
    )
    ping_url = forms.CharField(
        label="Ping address",
        required=False,
        max_length=500,
        help_text="Where we tell it that its person has answered in their inbox: https. Empty: it keeps asking us.",
        widget=forms.TextInput(attrs={"spellcheck": "false", "class": "mono", "autocomplete": "off"}),
    )
    valid_until = forms.DateField(
        label="Ends on",
        required=False,
        help_text="Within 366 days. Empty: until somebody stops it.",
        widget=forms.DateInput(attrs={"type": "date"}),
    )

    def __init__(self, tenant: Tenant, me: Member, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenant = tenant
        members = Member.objects.filter(tenant=tenant, deactivated_at=None, user__is_active=True)
        owner = self.fields["owner"]
        assert isinstance(owner, forms.ModelChoiceField)
        owner.queryset = members.select_related("user").order_by("user__name")

        def named(one: Any) -> str:
            return f"{one.name} (me)" if one.id == me.id else str(one.name)

        owner.label_from_instance = named  # type: ignore[method-assign,assignment]  # of this field alone
        scopes = self.fields["scopes"]
        assert isinstance(scopes, forms.ModelMultipleChoiceField)
        reachable = Scope.objects.filter(tenant=tenant, resource__state=Resource.State.PUBLISHED)
        scopes.queryset = reachable.select_related("resource").order_by("resource__name", "words")

    def may_have_no_owner(self) -> None:
        """Limiting an agent that introduced itself is not answering for it."""
        owner = self.fields["owner"]
        assert isinstance(owner, forms.ModelChoiceField)
        owner.required, owner.empty_label = False, "Nobody yet"

    def places(self) -> list[Place]:
        """Resources with their scopes by risk, ticked as typed or as they are."""
        ticked = {str(getattr(one, "pk", one)) for one in self["scopes"].value() or []}
        field = self.fields["scopes"]
        assert isinstance(field, forms.ModelMultipleChoiceField) and field.queryset is not None
        by_resource: dict[Resource, list[Scope]] = {}
        ours_last = sorted(field.queryset, key=lambda scope: scope.resource.kind == Resource.Kind.MANAGEMENT)
        for scope in ours_last:
            by_resource.setdefault(scope.resource, []).append(scope)
        return [
            Place(
                resource,
                [
                    Group(risk, RISK_WORDS[risk], [(one, str(one.pk) in ticked) for one in found if one.risk == risk])
                    for risk in RISKS
                    if any(one.risk == risk for one in found)
                ],
                sum(str(one.pk) in ticked for one in found),
            )
            for resource, found in by_resource.items()
        ]

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"]).strip()
        namesakes = Agent.objects.filter(tenant=self.tenant, name__iexact=name).exclude(state=Agent.State.RETIRED)
        if own := self.initial.get("id"):
            namesakes = namesakes.exclude(id=own)
        taken = namesakes.select_related("owner__user").first()
        if taken is not None:
            owner = f"{taken.owner.name} already owns" if taken.owner else "there is already"
            raise forms.ValidationError(f"{owner[0].upper()}{owner[1:]} a “{taken.name}”. Pick another name.")
        return name

    def clean_redirect_uris(self) -> list[str]:
        uris = str(self.cleaned_data["redirect_uris"]).split()
        for uri in uris:
            try:
                require_registrable(uri)
            except InvalidRedirectUri as wrong:
                raise forms.ValidationError(f"{uri}: {wrong}") from None
        return uris

    def clean_valid_until(self) -> datetime | None:
        chosen = self.cleaned_data["valid_until"]
        return datetime.combine(chosen, time(23, 59, 59), UTC) if chosen else None


class RegisterForm(AgentForm):
    """Also how it works and how it proves itself."""

    kind = forms.ChoiceField(label="How it will work", choices=[(key, name) for key, name, *_ in KINDS])
    proof = forms.ChoiceField(label="How it signs in", choices=[(key, name) for key, name, *_ in PROOFS])
    key = forms.CharField(
        label="Public key",
        required=False,
        help_text="PEM or JWK: EC P-256, Ed25519, or RSA of at least 2048 bits.",
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "class": "mono", "autocomplete": "off"}),
    )
    high_assurance = forms.BooleanField(label="High assurance", required=False)
    field_order = (
        "kind",
        "name",
        "purpose",
        "owner",
        "scopes",
        "redirect_uris",
        "proof",
        "key",
        "high_assurance",
        "valid_until",
    )

    kinds = KINDS
    proofs = PROOFS

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        proof, kind = said.get("proof"), said.get("kind")
        if proof in ("browser", "paste"):
            try:
                said["jwk"] = public_jwk(said.get("key", ""))
            except NotAKey as wrong:
                self.add_error("key", str(wrong))
        if said.get("high_assurance") and proof not in ("browser", "paste"):
            self.add_error("high_assurance", KEY_ALONE)
        if proof == "none" and kind == Agent.Kind.AUTONOMOUS:
            self.add_error("proof", "An agent that runs by itself must prove itself with a key or a secret.")
        if proof == "none" and kind != Agent.Kind.AUTONOMOUS and not said.get("redirect_uris", True):
            self.add_error(
                "redirect_uris", "Without a key or secret, the redirect address is all that ties it to its owner."
            )
        return said

    def auth_method(self) -> str:
        return {key: method for key, _, _, method in PROOFS}[self.cleaned_data["proof"]]


class CredentialForm(forms.Form):
    """One more key or secret for an agent that exists."""

    proof = forms.ChoiceField(label="What", choices=[(key, name) for key, name, *_ in PROOFS[:3]])
    key = RegisterForm.base_fields["key"]
    expires_at = forms.DateField(
        label="Ends on",
        required=False,
        help_text="Within 366 days. Empty: until somebody retires it.",
        widget=forms.DateInput(attrs={"type": "date"}),
    )
    proofs = PROOFS[:3]

    def clean_expires_at(self) -> datetime | None:
        chosen = self.cleaned_data["expires_at"]
        return datetime.combine(chosen, time(23, 59, 59), UTC) if chosen else None

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        if said.get("proof") in ("browser", "paste"):
            try:
                said["jwk"] = public_jwk(said.get("key", ""))
            except NotAKey as wrong:
                self.add_error("key", str(wrong))
        return said
