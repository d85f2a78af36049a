"""The two commands say in a line or two what is missing and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.database import CHECKOUT

FIND_PYTHON = CHECKOUT / "bin" / "find-python"


@pytest.fixture
def install() -> ModuleType:
    """bin/install.py, which is a script and no module of the project."""
    spec = importlib.util.spec_from_file_location("install", CHECKOUT / "bin" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _pretend_python(folder: Path, name: str, version: str) -> Path:
    script = folder / name
    script.write_text(f"#!/bin/sh\necho {version}\n")
    script.chmod(0o755)
    return script


def _find_python(folder: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": str(folder)}
    return subprocess.run(["/bin/sh", str(FIND_PYTHON)], env=environ, capture_output=True, text=True, check=False)


def test_an_old_python_is_named_with_what_to_install(tmp_path: Path) -> None:
    _pretend_python(tmp_path, "python3", "3.9")
    found = _find_python(tmp_path)
    assert found.returncode == 1
    assert "needs Python 3.11 or newer; here is Python 3.9" in found.stderr
    assert "apt-get install python3" in found.stderr


def test_no_python_at_all_is_said(tmp_path: Path) -> None:
    assert "here is none" in _find_python(tmp_path).stderr


@pytest.mark.parametrize("version", ["3.11", "3.14", "3.20"])
def test_a_newer_python_beside_an_old_one_is_found(tmp_path: Path, version: str) -> None:
    _pretend_python(tmp_path, "python3", "3.10")
    newer = _pretend_python(tmp_path, "python3.12", version)
    assert _find_python(tmp_path).stdout.strip() == str(newer)


def test_musl_without_a_database_is_refused_with_the_way_out(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "is_musl", lambda: True)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    with pytest.raises(SystemExit, match="1"):
        install.require_a_database()
    said = capsys.readouterr().err
    assert "musl" in said and "DATABASE_URL" in said
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example/agentauth")
    install.require_a_database()


def test_a_python_without_pip_and_ensurepip_names_the_package(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "runs", lambda _command: False)
    with pytest.raises(SystemExit, match="1"):
        install.get_uv(tmp_path)
    assert f"apt-get install python{sys.version_info.major}.{sys.version_info.minor}-venv" in capsys.readouterr().err


def test_no_network_is_said_with_what_helps(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(SystemExit, match="1"):
        install.get_uv(tmp_path)
    assert "is the network there?" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_sends_the_environment_home(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("AGENTAUTH_HOME", str(tmp_path / "home"))
    assert install.environment_folder() == tmp_path / "home" / "venv"


def test_nowhere_to_write_is_refused_with_both_places(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(install, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("AGENTAUTH_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(SystemExit, match="1"):
        install.environment_folder()
    said = capsys.readouterr().err
    assert "checkout" in said and "AGENTAUTH_HOME" in said


def test_an_interrupted_install_is_done_again(install: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert not install.is_installed(tmp_path, "run")
    (tmp_path / "installed").write_text(f"{install.lock_hash()} run\n")
    assert install.is_installed(tmp_path, "run")
    assert not install.is_installed(tmp_path, "test")
    (tmp_path / "installed").write_text("another lock file run test\n")
    assert not install.is_installed(tmp_path, "run")
