"""Servers of these tests' own, in folders that PostgreSQL's system user can reach when the tests run as root."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentauth.embedded.postgres import Cluster
from tests.database import TestServer


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    """Like tmp_path, but not below folders that only we may pass."""
    folder = Path(tempfile.mkdtemp(prefix="agentauth-embedded-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(reachable_folder: Path, postgres_server: TestServer) -> Iterator[Cluster]:
    """A new durable cluster, not started yet; its path has a space."""
    made = Cluster(reachable_folder / "a b", copies=postgres_server.folder)
    yield made
    made.stop()
