"""The production files speak of things that exist: commands, environment, secrets, ports."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from agentauth.settings import Knobs

CHECKOUT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service.get("image") == "agentauth:local"}
KNOWN = {field.validation_alias or f"AGENTAUTH_{name.upper()}" for name, field in Knobs.model_fields.items()}


def test_all_processes_are_there():
    assert OURS.keys() == {"migrate", "web", "gateway", "sequencer", "worker", "beat"}
    assert SERVICES["postgres"]["image"] == "postgres:18" and SERVICES["valkey"]["image"].startswith("valkey/valkey:")


@pytest.mark.parametrize("name", OURS)
def test_every_command_exists(name):
    program, *arguments = OURS[name]["command"]
    if program != "python":
        assert (Path(sys.executable).parent / program).exists()
        target = next(one for one in arguments if one.startswith("agentauth"))
        assert importlib.util.find_spec(target.partition(":")[0])
    elif arguments[0] == "-m":
        assert importlib.util.find_spec(arguments[1])
    else:
        assert arguments[0] == "manage.py" and arguments[1] in get_commands()


def test_the_options_of_the_servers_are_real():
    def help_of(*command):
        return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True).stdout

    gateway = help_of("-m", "agentauth.embedded.gateway", "--help")
    for option in OURS["gateway"]["command"][3:]:
        assert option.partition("=")[0] in gateway
    web = help_of("-m", "agentauth.embedded.web", "--help")
    assert "--host" in web and "--port" in web
    for what in ("worker", "beat"):
        told = help_of("-m", "celery", "-A", "agentauth", what, "--help")
        for option in OURS[what]["command"][4:]:
            assert option.partition("=")[0] in told


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_knob_and_every_secret_is_given(name):
    service = OURS[name]
    for variable, value in service["environment"].items():
        assert variable.removesuffix("_FILE") in KNOWN, variable
        if variable.endswith("_FILE"):
            assert value == f"/run/secrets/{Path(value).name}" and Path(value).name in service["secrets"]
    assert set(service["secrets"]) <= COMPOSE["secrets"].keys()


def test_only_the_migration_gets_the_owners_login():
    assert [name for name, one in OURS.items() if "database_url" in one["secrets"]] == ["migrate"]
    assert [name for name, one in OURS.items() if "database_sequencer_url" in one["secrets"]] == ["sequencer"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_may_write_only_their_data_and_gain_no_rights(name):
    service = OURS[name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "USER agentauth" in (CHECKOUT / "Dockerfile").read_text()


def test_whoever_answers_requests_says_whether_it_is_well():
    for name in ("postgres", "valkey", "web", "gateway", "worker", "beat"):
        assert SERVICES[name]["healthcheck"]["test"], name


def test_the_image_copies_only_what_the_build_context_lets_through():
    let_through = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names == let_through and all((CHECKOUT / name).exists() for name in names)


def test_make_secrets_makes_each_once_and_the_roles_script_reads_them(tmp_path):
    shutil.copytree(CHECKOUT / "deploy", tmp_path / "deploy")
    make = [str(tmp_path / "deploy" / "make-secrets")]
    subprocess.run(make, check=True, capture_output=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert made.keys() == COMPOSE["secrets"].keys()
    assert len(set(made.values())) == len(made) and min(map(len, made.values())) >= 64
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    again = subprocess.run(make, capture_output=True, check=False)
    assert again.returncode == 1 and (tmp_path / "secrets" / "secret_key").read_text() == made["secret_key"]
    script = (CHECKOUT / "deploy" / "postgres-roles.sh").read_text().replace("/run/secrets", str(tmp_path / "secrets"))
    fake = tmp_path / "psql"  # stands for somebody else's program: tells what it was given
    fake.write_text('#!/bin/sh\nfor a in "$@"; do echo "$a"; done; cat >/dev/null\n')
    fake.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    told = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=True, env=environ).stdout
    for role, name in (("owner", "database_url"), ("app", "database_app_url")):
        assert f"{role}={made[name].split(':')[2].partition('@')[0]}" in told.splitlines()


@pytest.mark.parametrize("script", ["deploy/make-secrets", "deploy/postgres-roles.sh"])
def test_scripts_are_sound_shell(script):
    assert os.access(CHECKOUT / script, os.X_OK)
    subprocess.run(["sh", "-n", str(CHECKOUT / script)], check=True)
