"""Hearing what changed, for the short lane: a thread that listens, and a beat that proves that it still hears."""

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import orjson
import psycopg
from django.db import connections

from tenants.notice import CHANNEL

log = logging.getLogger(__name__)

HEARTBEAT = 0.1
TRUST = 1.0  # seconds after a proof of hearing during which what is remembered counts as current
RETRY = 0.25

OnNotice = Callable[[str, str, str], None]


def connect(name: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection of one's own, as the application's role, in autocommit, never waiting long."""
    given = connections["default"].get_connection_params()
    known = {key: given[key] for key in ("dbname", "user", "password", "host", "port", "options") if given.get(key)}
    connection = psycopg.connect(**known, autocommit=True, connect_timeout=2, application_name=name)
    connection.execute("SET statement_timeout = 3000")
    return connection


class Hearing:
    """`on_notice(tenant, what, subject)` for each notice; `on_gap()` whenever some may have been missed."""

    def __init__(self, on_notice: OnNotice, on_gap: Callable[[], None]) -> None:
        self._on_notice, self._on_gap = on_notice, on_gap
        self._trusted_until = 0.0
        self._doubted_at = 0.0
        self._trusting = threading.Lock()
        self._ended = False
        self._wakes, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._thread: threading.Thread | None = None

    def ensure_started(self) -> None:
        """Begin to listen, in the process that serves: a thread does not survive a fork."""
        if self._thread is None:
            with self._trusting:
                if self._thread is None and not self._ended:
                    self._thread = threading.Thread(target=self._run, name="oauth-hearing", daemon=True)
                    self._thread.start()

    def stop(self) -> None:
        self._ended = True
        self.doubt()
        if self._thread is not None:
            self._thread.join(5)

    @property
    def is_fresh(self) -> bool:
        """True while nothing can have been missed. Otherwise the database is asked."""
        return time.monotonic() < self._trusted_until

    def doubt(self) -> None:
        """Something may just have been committed by this process: trust nothing until a beat that begins after now."""
        with self._trusting:
            self._doubted_at = time.monotonic()
            self._trusted_until = 0.0
        with suppress(BlockingIOError):  # full: it is awake enough
            os.write(self._wake, b"!")

    def _run(self) -> None:
        silent = False
        while not self._ended:
            try:
                self._listen()
            except (psycopg.Error, OSError) as problem:
                if not silent:
                    log.warning("not hearing the database: %s", str(problem).strip().splitlines()[:1])
                silent = self._trusted_until == 0.0
            with self._trusting:
                self._trusted_until = 0.0
            time.sleep(0 if self._ended else RETRY)

    def _listen(self) -> None:
        with connect("agentauth-lane-hearing") as connection:
            connection.execute(f"LISTEN {CHANNEL}")
            self._on_gap()  # from here on nothing is missed; what was remembered before may be old
            while not self._ended:
                self._beat(connection)
                ready, _, _ = select.select([connection.fileno(), self._wakes], [], [], HEARTBEAT)
                if self._wakes in ready:
                    os.read(self._wakes, 65536)

    def _beat(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        """A round trip: whatever was committed before it began has arrived when it ends."""
        began = time.monotonic()
        connection.execute("SELECT 1")
        for notice in connection.notifies(timeout=0):
            self._heard(notice.payload)
        with self._trusting:
            if self._doubted_at < began:
                self._trusted_until = began + TRUST

    def _heard(self, payload: str) -> None:
        try:
            said = orjson.loads(payload)
            tenant, what, subject = str(said["tenant"]), str(said["what"]), str(said.get("subject", ""))
        except (ValueError, KeyError, TypeError):
            log.warning("a notice that is not ours on channel %s", CHANNEL)
            self._on_gap()
            return
        self._on_notice(tenant, what, subject)
