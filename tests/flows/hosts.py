"""MCP hosts made of the official SDKs, behind one face: what a person's chat program or editor would do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from anyio.from_thread import start_blocking_portal
from mcp.client.client import Client
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl

from tests.flows.mcp_client import CALLBACK, Denied, Memory, by_itself, connected, mcp_client
from tests.flows.node_program import Browse, NodeProgram, Problem, node_program


class Refused(Exception):
    """The host's SDK gave up; the text is what it says."""


@dataclass(frozen=True)
class Kind:
    """An SDK in one era of the protocol."""

    name: str
    version: str  # of MCP, as it must be agreed on
    sdk: str = ""  # the npm package; empty for Python
    mode: Any = ""
    # When a call needs more it asks the person "itself", or once its tokens are "forgotten" (before that it tries a
    # refresh, which cannot give more), or "never", so that the person has to go to `ask_at`.
    steps_up: str = "itself"


KINDS = (
    Kind("python-2026-07-28", "2026-07-28", mode="auto"),
    Kind("python-2025-11-25", "2025-11-25", mode="legacy"),
    Kind("typescript-2026-07-28", "2026-07-28", "@modelcontextprotocol/client", {"pin": "2026-07-28"}),
    Kind("typescript-2025-11-25", "2025-11-25", "@modelcontextprotocol/client", "legacy"),
    Kind("typescript-v1-2025-11-25", "2025-11-25", "@modelcontextprotocol/sdk", steps_up="forgotten"),
    Kind("typescript-v1-2025-06-18", "2025-06-18", "mcp-sdk-2025-06", steps_up="never"),
)


@dataclass(frozen=True)
class Registered:
    """How the host is known to the issuer: by its document, by an id from an admin, or not yet."""

    name: str
    document: str | None = None
    client_id: str = ""
    secret: str = ""
    key: str = ""  # its private key, PEM
    itself_at: str = ""  # the issuer that it knows, when it acts for itself and not for a person


class Host(Protocol):
    def version(self) -> str: ...
    def client_id(self) -> str: ...
    def scope(self) -> str: ...
    def refresh_token(self) -> str: ...
    def tools(self) -> list[str]: ...
    def call(self, tool: str) -> str:
        """What the tool answers, as text. Raises Refused."""

    def forget(self) -> None:
        """Throw the tokens away, so that the person is asked again."""


@contextmanager
def host(kind: Kind, url: str, registered: Registered, browse: Browse, node: str) -> Iterator[Host]:
    """Connected to the server at `url`. Raises Refused when it does not come to that."""
    with ExitStack() as running:
        yield (_typescript if kind.sdk else _python)(running, kind, url, registered, browse, node)


class _Python:
    def __init__(self, running: ExitStack, kind: Kind, url: str, registered: Registered, browse: Browse) -> None:
        self.memory = Memory()
        if registered.client_id:
            self.memory.client = OAuthClientInformationFull(
                client_id=registered.client_id,
                client_secret=registered.secret,
                redirect_uris=[AnyUrl(CALLBACK)],
                token_endpoint_auth_method="client_secret_basic",
            )
        self.portal = running.enter_context(start_blocking_portal())
        if registered.itself_at:
            auth = by_itself(
                url,
                self.memory,
                registered.client_id,
                issuer=registered.itself_at,
                secret=registered.secret,
                key=registered.key,
            )
            connecting = connected(url, auth, kind.mode)
        else:
            connecting = mcp_client(
                url, browse, self.memory, mode=kind.mode, name=registered.name, document=registered.document
            )
        try:
            self.client: Client = running.enter_context(self.portal.wrap_async_context_manager(connecting))
        except BaseExceptionGroup as problems:
            raise Refused(str(_first(problems))) from problems
        except Exception as problem:
            raise Refused(str(problem)) from problem

    def version(self) -> str:
        return self.client.protocol_version

    def client_id(self) -> str:
        assert self.memory.client is not None and self.memory.client.client_id is not None
        return self.memory.client.client_id

    def scope(self) -> str:
        assert self.memory.tokens is not None
        return self.memory.tokens.scope or ""

    def refresh_token(self) -> str:
        assert self.memory.tokens is not None
        return self.memory.tokens.refresh_token or ""

    def tools(self) -> list[str]:
        return [tool.name for tool in self.portal.call(self.client.list_tools).tools]

    def call(self, tool: str) -> str:
        try:
            answer = self.portal.call(self.client.call_tool, tool, {})
        except Exception as problem:
            raise Refused(str(problem)) from problem
        return str(answer.content)

    def forget(self) -> None:
        raise NotImplementedError("this SDK asks by itself")


class _TypeScript:
    def __init__(self, program: NodeProgram) -> None:
        self.program = program
        self.known = self._ask("connect")

    def version(self) -> str:
        return str(self.known["version"])

    def client_id(self) -> str:
        return str(self.known["client_id"])

    def scope(self) -> str:
        return str(self._ask("held")["scope"])

    def refresh_token(self) -> str:
        return str(self._ask("held")["refresh_token"])

    def tools(self) -> list[str]:
        return list(self._ask("tools"))

    def call(self, tool: str) -> str:
        return str(self._ask("call", name=tool)["content"])

    def forget(self) -> None:
        self._ask("forget")

    def _ask(self, act: str, **wanted: Any) -> Any:
        try:
            return self.program.ask(act, **wanted)
        except Problem as problem:
            raise Refused(str(problem)) from problem


def _python(running: ExitStack, kind: Kind, url: str, registered: Registered, browse: Browse, node: str) -> Host:
    return _Python(running, kind, url, registered, browse)


def _typescript(running: ExitStack, kind: Kind, url: str, registered: Registered, browse: Browse, node: str) -> Host:
    told: dict[str, Any] = {
        "sdk": kind.sdk,
        "mode": kind.mode,
        "url": url,
        "callback": CALLBACK,
        "name": registered.name,
    }
    if registered.document:
        told["document"] = registered.document
    if registered.itself_at:
        told["itself"] = {
            "client_id": registered.client_id,
            "issuer": registered.itself_at,
            "secret": registered.secret,
            "key": registered.key,
        }
    elif registered.client_id:
        told["client"] = {"client_id": registered.client_id, "client_secret": registered.secret}
    return _TypeScript(running.enter_context(node_program(node, "mcp_client.mjs", browse, **told)))


def _first(problems: BaseExceptionGroup) -> BaseException:
    """The first that is not a group itself."""
    found: BaseException = problems
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return Denied(str(found)) if isinstance(found, Denied) else found
