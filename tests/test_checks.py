"""Unsafe settings do not start, and the message says what to change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as real
from pydantic import ValidationError

from agentauth import checks
from agentauth.settings import Knobs

SAFE = {"base_url": "https://auth.example.com", "gateway_url": "https://gateway.example.com", "database_url": "x"}
UNSAFE = [
    ({"base_url": "http://auth.example.com"}, "agentauth.E010"),
    ({"gateway_url": "http://gateway.example.com"}, "agentauth.E010"),
    ({"debug": True}, "agentauth.E011"),
    ({"demo_password": "x"}, "agentauth.E012"),
    ({"secret_key": "short"}, "agentauth.E013"),
    ({"allowed_hosts_outbound": ["localhost:5432"]}, "agentauth.E014"),
    ({"allowed_hosts_outbound": ["127.0.0.1"]}, "agentauth.E014"),
    ({"allowed_hosts_outbound": ["[::1]:80"]}, "agentauth.E014"),
    ({"allowed_hosts_outbound": ["169.254.169.254"]}, "agentauth.E014"),
    ({"gateway_url": "https://auth.example.com"}, "agentauth.E002"),
    ({"gateway_url": "https://auth.example.com:443"}, "agentauth.E002"),
    ({"base_url": "https://auth.example.com/auth"}, "agentauth.E003"),
    ({"access_token_seconds": 86400}, "agentauth.E004"),
    ({"code_seconds": 3600}, "agentauth.E005"),
    ({"database_url": ""}, "agentauth.W001"),
]


def found(settings, **changes):
    knobs = real.KNOBS.model_copy(update=SAFE | changes)
    settings.KNOBS, settings.PRODUCTION, settings.DEBUG = knobs, True, bool(changes.get("debug"))
    return checks.unsafe_settings()


def test_safe_production_settings_start(settings):
    assert found(settings) == []
    assert found(settings, allowed_hosts_outbound=["crm.internal:8443", "10.0.0.7"]) == []


@pytest.mark.parametrize(("change", "code"), UNSAFE)
def test_an_unsafe_setting_is_named_with_what_to_do(settings, change, code):
    (message,) = found(settings, **change)
    assert message.id == code and message.hint


def test_a_home_inside_the_checkout_is_refused(settings):
    settings.HOME = real.BASE_DIR / "data"
    assert "agentauth.E001" in [message.id for message in found(settings)]


@pytest.mark.parametrize("start", [["-c", "import agentauth.wsgi"], ["manage.py", "check"], ["manage.py", "up"]])
def test_no_process_starts_on_unsafe_settings(start, tmp_path):
    environ = {
        "PATH": os.environ["PATH"],
        "AGENTAUTH_HOME": str(tmp_path / "home"),
        "AGENTAUTH_MODE": "production",
        "AGENTAUTH_BASE_URL": "http://auth.example.com",
        "AGENTAUTH_GATEWAY_URL": "https://gateway.example.com",
        "DATABASE_URL": "postgresql://nobody@localhost/none",
    }
    checkout = Path(__file__).parent.parent
    tried = subprocess.run(
        [sys.executable, *start], cwd=checkout, env=environ, capture_output=True, text=True, check=False
    )
    assert tried.returncode != 0 and "agentauth.E010" in tried.stderr and "https://" in tried.stderr


@pytest.mark.parametrize(
    ("named", "read"),
    [
        ("10.0.0.5, 172.18.0.9/16,::1", ["10.0.0.5/32", "172.18.0.0/16", "::1/128"]),
        ("", []),
        ("*", None),
        ("a.b", None),
    ],
)
def test_a_trusted_proxy_is_an_address_or_a_network(monkeypatch, named, read):
    monkeypatch.setenv("AGENTAUTH_TRUSTED_PROXIES", named)
    if read is None:
        with pytest.raises(ValidationError):
            Knobs()
    else:
        assert Knobs().trusted_proxies == read
