"""What is written is true: settings, reasons, checks, links and code in README and docs."""

import ast
import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from agentauth import checks
from agentauth.oauth.errors import OAuthError
from agentauth.policy.decision import Reason
from agentauth.settings import Knobs

CHECKOUT = Path(__file__).parent.parent
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
PICTURES = {"home", "agent", "consent", "my-agents", "record", "export"}  # taken by the browser tests
# Read before Django's settings are: where things lie, and what one machine's supervisor listens on
ELSEWHERE = {"AGENTAUTH_HOME", "AGENTAUTH_BIND", "AGENTAUTH_GATEWAY_WORKERS", "PORT", "GATEWAY_PORT", "OFFICE_PORT"}


def knobs():
    return {field.validation_alias or f"AGENTAUTH_{name.upper()}": field for name, field in Knobs.model_fields.items()}


def told_settings():
    page = (CHECKOUT / "docs" / "operator.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `")
    ]
    return {name: row for row in rows for name in re.findall(r"`([A-Z_]+)`", row[0])}


def test_every_setting_is_told_and_none_is_made_up():
    assert told_settings().keys() == knobs().keys() | ELSEWHERE


def test_plain_defaults_are_told_as_they_are():
    for name, field in knobs().items():
        if isinstance(field.default, (bool, int, float)) or (isinstance(field.default, str) and field.default):
            said = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
            assert told_settings()[name][1] == f"`{said}`", name


def test_every_reason_has_its_anchor_and_words():
    page = (CHECKOUT / "docs" / "agent-developer.md").read_text()
    for reason in Reason:
        part = page.partition(f"\n### {reason.value}\n")[2].partition("\n### ")[0]
        assert reason.words in part and reason.fix in part, reason


def test_every_error_of_the_protocol_has_its_anchor_and_status():
    page = (CHECKOUT / "docs" / "agent-developer.md").read_text()
    part = page.partition("\n## What the authorization server refuses\n")[2].partition("\n## ")[0]
    told = dict(re.findall(r"\n### (\w+)\n\n(.*?)(?=\n### |\Z)", part, re.DOTALL))
    known = [OAuthError, *subclasses(OAuthError)]
    assert told.keys() == {error.code for error in known}
    for error in known:
        assert error.status == 400 or f"`{error.status}`" in told[error.code], error


def subclasses(kind):
    return [one for direct in kind.__subclasses__() for one in (direct, *subclasses(direct))]


def test_every_check_is_told():
    page = (CHECKOUT / "docs" / "operator.md").read_text()
    known = set(re.findall(r"agentauth\.[EW]\d{3}", Path(checks.__file__).read_text()))
    assert known == set(re.findall(r"agentauth\.[EW]\d{3}", page))


def anchor(heading):
    """As the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, fragment = target.partition("#")
        if target.startswith("docs/img/"):
            assert Path(target).suffix == ".png" and Path(target).stem in PICTURES
            continue
        assert "://" not in target, f"{target}: the docs must work offline"
        other = (page.parent / path) if path else page
        assert other.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE)
            assert fragment in {anchor(heading) for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_the_docs_is_python(page):
    for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        ast.parse(code)


def test_the_assertion_example_accepts_ours_and_nothing_else(monkeypatch):
    """The code that API owners copy, run as it stands."""
    import time

    import jwt
    from cryptography.hazmat.primitives.asymmetric import ec

    page = (CHECKOUT / "docs" / "api-owner.md").read_text()
    (code,) = (one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def who_calls" in one)
    key = ec.generate_private_key(ec.SECP256R1())
    monkeypatch.setattr(jwt.PyJWKClient, "get_signing_key_from_jwt", lambda self, token: key.public_key())
    room: dict = {}
    exec(compile(code, "api-owner.md", "exec"), room)
    now = int(time.time())
    good = {
        "iss": room["ISSUER"],
        "aud": "https://rooms.example.com",
        "sub": "m",
        "jti": "1",
        "iat": now,
        "exp": now + 30,
    }

    def signed(typ="txntoken+jwt", **changes):
        return jwt.encode(good | changes, key, algorithm="ES256", headers={"typ": typ})

    assert room["who_calls"](signed())["sub"] == "m"
    for bad in (signed(typ="at+jwt"), signed(aud="https://other.example"), signed(exp=now - 1), signed(iss="x")):
        with pytest.raises(jwt.InvalidTokenError):
            room["who_calls"](bad)


def test_every_command_of_manage_py_exists():
    for page in PAGES:
        for name in re.findall(r"manage\.py ([a-z_-]+)", page.read_text()):
            assert name in get_commands(), (page.name, name)


def test_the_readme_names_the_two_commands():
    readme = (CHECKOUT / "README.md").read_text()
    for command in ("bin/run", "bin/test"):
        assert command in readme and (CHECKOUT / command).stat().st_mode & 0o111
