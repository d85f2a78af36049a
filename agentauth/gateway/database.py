"""The gateway's own way to the database: asynchronous, as the application's role, never waiting long.

Calls do not pass through the ORM: it blocks, and costs more than all the rest of a call.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool

from agentauth.database import address
from tenants.rls import TENANT_SETTING

ENTER = f"SELECT set_config('{TENANT_SETTING}', %s, true)"
LIMIT = 3.0  # seconds that anything may take before the database counts as gone

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]


def conninfo(*, direct: bool = False) -> str:
    """Where Django's `default` leads, in libpq's words; `direct`, past the pooler if there is a way past."""
    return address.conninfo("agentauth-gateway", direct=direct)


async def connect(*, direct: bool = False) -> Connection:
    """A connection of one's own, in autocommit: transactions are said explicitly."""
    connection = await psycopg.AsyncConnection.connect(conninfo(direct=direct), autocommit=True)
    await _configure(connection)
    return connection


def make_pool() -> Pool:
    """A few connections for reading; not opened yet."""
    return AsyncConnectionPool(
        conninfo(),
        min_size=0,
        max_size=4,
        max_idle=120,
        timeout=1.0,
        open=False,
        kwargs={"autocommit": True},
        configure=_configure,
        check=AsyncConnectionPool.check_connection,
        reconnect_timeout=1,
    )


async def _configure(connection: Connection) -> None:
    await connection.execute(f"SET statement_timeout = {int(LIMIT * 1000)}")
    await connection.execute("SET idle_in_transaction_session_timeout = 10000")


@asynccontextmanager
async def reading(pool: Pool, tenant_id: UUID | None = None) -> AsyncIterator[Connection]:
    """A short transaction, inside one tenant if one is named."""
    async with asyncio.timeout(LIMIT), pool.connection() as connection, connection.transaction():
        if tenant_id is not None:
            await connection.execute(ENTER, [str(tenant_id)])
        yield connection
