"""The form of a trusted issuer, in people's words, and what may run as an agent."""

from typing import Any

import orjson
from django import forms

from agentauth.agents.models import TrustedIssuer

Kind, KeysFrom = TrustedIssuer.Kind, TrustedIssuer.KeysFrom
GITHUB = "https://token.actions.githubusercontent.com"
KINDS = (
    (Kind.WORKLOAD, "A place where programs run", "GitHub Actions, GitLab, a Kubernetes cluster, a cloud."
     " A program there becomes an agent without any secret."),
    (Kind.ENTERPRISE, "Our sign-in provider", "Okta, Entra, Keycloak … It says in your people’s place what an agent"
     " may do, and everybody can see and end it."),
    (Kind.SPIFFE, "A SPIFFE trust domain", "Programs prove themselves with a JWT-SVID."),
)  # fmt: skip
KEYS = (
    (KeysFrom.DISCOVERY, "It publishes them", "We find them by its address. Usual."),
    (KeysFrom.ADDRESS, "At another address", "A JWKS address, or the bundle of a trust domain."),
    (KeysFrom.PASTED, "I paste them", "For a cluster that we cannot reach. New keys have to be pasted too."),
)
CEILINGS = (
    ("read", "Read only", "It can look at what its person may see."),
    ("change", "Read and change", "It can also change things. Usual."),
    ("dangerous", "Everything, asking the person each time", "Dangerous calls wait for the person’s yes."),
)
ORDERS = (
    ("", "No", "Only its letters for one agent (ID-JAG) count here."),
    ("standard", "Yes, latest actor outermost", "As the standard (RFC 8693) has it."),
    ("reversed", "Yes, latest actor innermost", "Some providers nest them the other way round."),
)
_AREA = {"rows": 4, "spellcheck": "false", "class": "mono", "autocomplete": "off"}


class TrustForm(forms.Form):
    kind = forms.ChoiceField(label="What is it?", choices=[(key, name) for key, name, _ in KINDS])
    name = forms.CharField(label="Name", max_length=80, help_text="As people here call it.")
    issuer = forms.CharField(
        label="Address of the issuer",
        max_length=500,
        strip=False,
        help_text="Exactly as in “iss” of its tokens, slash for slash. For a trust domain: spiffe://example.org",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false"}),
    )
    keys_from = forms.ChoiceField(label="Where are its keys?", choices=[(key, name) for key, name, _ in KEYS])
    jwks_uri = forms.CharField(label="Address of the keys", max_length=500, required=False)
    jwks = forms.CharField(label="The keys (JWKS)", required=False, widget=forms.Textarea(attrs=_AREA))
    audience = forms.CharField(
        label="Its tokens are addressed to",
        max_length=500,
        required=False,
        help_text="What “aud” holds, if not our own issuer.",
    )
    email_domains = forms.CharField(
        label="It speaks for addresses at",
        required=False,
        max_length=2000,
        help_text="Such as acme.example; several with spaces between. Without any, it must say that it verified each.",
    )
    ceiling_risk = forms.ChoiceField(
        label="The most that it may allow an agent", choices=[(key, name) for key, name, _ in CEILINGS]
    )
    grant_days = forms.IntegerField(
        label="What it allows is good for", min_value=1, max_value=366, help_text="Days. Then it has to say it anew."
    )
    act_order = forms.ChoiceField(
        label="May agents exchange its other tokens?", required=False, choices=[(key, name) for key, name, _ in ORDERS]
    )

    kinds, keys, ceilings, orders = KINDS, KEYS, CEILINGS, ORDERS

    def clean_jwks(self) -> dict[str, Any] | None:
        text = str(self.cleaned_data["jwks"]).strip()
        if not text:
            return None
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise forms.ValidationError("This is not JSON. A key set looks like {“keys”: [ … ]}.") from None
        if not isinstance(found, dict):
            raise forms.ValidationError("A key set looks like {“keys”: [ … ]}.")
        return found

    def clean_email_domains(self) -> list[str]:
        return str(self.cleaned_data["email_domains"]).replace(",", " ").split()

    def said(self) -> dict[str, Any]:
        """What `trust_issuer` takes. Fields that do not belong to the choices made are left out."""
        said = dict(self.cleaned_data)
        if said["keys_from"] != KeysFrom.ADDRESS:
            said["jwks_uri"] = ""
        if said["keys_from"] != KeysFrom.PASTED:
            said["jwks"] = None
        if said["kind"] != Kind.ENTERPRISE:
            said |= {"email_domains": [], "act_order": ""}
        return said


class WorkloadForm(forms.Form):
    """Which program, there, is this agent. The fields of a preset become claim rules."""

    issuer = forms.ModelChoiceField(queryset=TrustedIssuer.objects.none(), label="Where it runs", empty_label=None)

    def __init__(self, issuers: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.fields["issuer"]
        assert isinstance(chosen, forms.ModelChoiceField)
        chosen.queryset = issuers

    def rules(self) -> dict[str, str]:
        raise NotImplementedError  # each preset has its own


class GitHubForm(WorkloadForm):
    repository = forms.CharField(max_length=200, help_text="Owner and name, as in acme/app.")
    branch = forms.CharField(
        max_length=200, required=False, help_text="Such as main. Empty: whoever may push to any branch is let in."
    )
    environment = forms.CharField(
        max_length=200, required=False, help_text="Such as production, if the job names one with its own reviewers."
    )

    def rules(self) -> dict[str, str]:
        said = self.cleaned_data
        rules = {"repository": said["repository"]}
        if said["branch"]:
            rules["ref"] = f"refs/heads/{said['branch'].removeprefix('refs/heads/')}"
        return rules | ({"environment": said["environment"]} if said["environment"] else {})


class KubernetesForm(WorkloadForm):
    namespace = forms.CharField(max_length=63)
    service_account = forms.CharField(label="Service account", max_length=253)

    def rules(self) -> dict[str, str]:
        said = self.cleaned_data
        return {"sub": f"system:serviceaccount:{said['namespace']}:{said['service_account']}"}


class OtherForm(WorkloadForm):
    rules_text = forms.CharField(
        label="What its token must say",
        max_length=3000,
        help_text="One a line: sub = spiffe://acme.example/shop/agent. A * may stand at the end.",
        widget=forms.Textarea(attrs=_AREA),
    )

    def clean_rules_text(self) -> dict[str, str]:
        rules: dict[str, str] = {}
        for line in str(self.cleaned_data["rules_text"]).splitlines():
            name, equals, value = line.partition("=")
            if not line.strip():
                continue
            if not equals or name.strip() in rules:
                raise forms.ValidationError("Write each claim once, on a line of its own: claim = value.")
            rules[name.strip()] = value.strip()
        return rules

    def rules(self) -> dict[str, str]:
        return dict(self.cleaned_data["rules_text"])


PRESETS: dict[str, tuple[str, type[WorkloadForm]]] = {
    "github": ("GitHub Actions", GitHubForm),
    "kubernetes": ("Kubernetes", KubernetesForm),
    "other": ("Somewhere else", OtherForm),
}
