"""The engine that settings.DATABASES names: Django's own, over connections whose patience ends."""

import time
from typing import Any

import psycopg
from django.db.backends.postgresql import base
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from agentauth.database.patience import PatientConnection, left, waited_since


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> PatientConnection:
        patience, begun = left(), time.monotonic()
        if patience is not None:
            if not patience:
                raise psycopg.OperationalError("the database does not answer in time")
            conn_params = {**conn_params, "connect_timeout": min(conn_params["connect_timeout"], max(2, patience))}
        self.isolation_level = IsolationLevel.READ_COMMITTED
        try:
            return PatientConnection.connect(**conn_params)
        finally:
            waited_since(begun)
