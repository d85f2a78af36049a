"""Where things are kept: outside the checkout, private, and short enough for a socket."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agentauth.embedded import paths


@pytest.fixture
def a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTAUTH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_operator_chooses_the_home(a_home: Path) -> None:
    assert paths.home() == a_home


@pytest.mark.parametrize(
    ("user", "expected"), [(0, Path("/var/lib/agentauth")), (1000, Path("/data of mine/agentauth"))]
)
def test_without_a_choice_the_home_follows_the_user(user: int, expected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTAUTH_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data of mine")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert paths.home() == expected


def test_secrets_are_for_us_only_even_if_somebody_opened_them(a_home: Path) -> None:
    paths.secrets_dir().chmod(0o755)
    assert stat.S_IMODE(paths.secrets_dir().stat().st_mode) == 0o700
    assert stat.S_IMODE(a_home.stat().st_mode) & 0o066 == 0


def test_a_long_home_gets_a_short_folder_for_its_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTAUTH_HOME", "/srv/" + "long/" * 30)
    monkeypatch.setenv("TMPDIR", "/another/tmp")
    socket = paths.postgres_socket_dir() / ".s.PGSQL.5432"
    assert len(os.fsencode(socket)) <= 103
    assert socket.is_relative_to("/tmp")


@pytest.mark.parametrize("name", ["a, b", "it's", 'say "x"', "back\\slash"])
def test_a_home_whose_name_libpq_would_misread_gets_a_plain_folder(name: str) -> None:
    assert paths.runtime_dir_of(Path("/srv") / name).parent == Path("/tmp")


def test_two_long_homes_do_not_share_a_folder() -> None:
    first, second = (paths.runtime_dir_of(Path("/srv/" + "long/" * 30 + name)) for name in ("a", "b"))
    assert first != second


def test_a_short_folder_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    long = Path("/srv/" + "long/" * 30 + str(os.getpid()))
    squatted = paths.runtime_dir_of(long)
    squatted.mkdir()
    try:
        somebody_else = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: somebody_else)
        with pytest.raises(paths.UnsafeFolder, match="belongs to user id"):
            paths.runtime_dir_of(long)
    finally:
        squatted.rmdir()


def test_a_link_in_the_place_of_the_short_folder_is_refused(tmp_path: Path) -> None:
    long = Path("/srv/" + "long/" * 30 + f"{os.getpid()}-link")
    squatted = paths.runtime_dir_of(long)
    squatted.symlink_to(tmp_path)
    try:
        with pytest.raises(paths.UnsafeFolder, match="not a folder"):
            paths.runtime_dir_of(long)
    finally:
        squatted.unlink()
