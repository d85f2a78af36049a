"""Reading an OpenAPI document (3.0, 3.1, 3.2) or Swagger 2.0, as JSON or YAML: which operations there are.

The document is hostile. It is limited in size, depth and aliases before it is built, only references within it are
followed, and only the part that we need is walked: paths, their operations, and the address of the server.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import orjson
import yaml

from agentauth.resources.drafts import MOST_OPERATIONS, Draft, DraftOperation, Unreadable, plain

MOST_BYTES = 5 * 1024 * 1024
_DEPTH = 100
_ALIASES = 200
_METHODS = ("get", "head", "post", "put", "patch", "delete", "query")
_LEFT_OUT = ("options", "trace")
_LONGEST_PATH = 180
_TEMPLATE = re.compile(r"\{([^{}/]+)\}")
_PATH_CHARACTERS = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@%/]*\Z")


def read(text: str | bytes, *, address: str = "") -> Draft:
    """The draft of a REST API. `address` is where the document was fetched, for a server address relative to it.

    Raises Unreadable.
    """
    document = _load(text)
    version = document.get("openapi", document.get("swagger"))
    if "openapi" in document and re.match(r"3\.[0-2](\.|\Z)", str(version)):
        upstream = _server(document, address)
    elif "swagger" in document and str(version) in ("2.0", "2"):
        upstream = _swagger_server(document, address)
    elif version is None:
        raise Unreadable("This is not an OpenAPI document: it says neither “openapi” nor “swagger” at the top.")
    else:
        raise Unreadable(f"Version {plain(str(version), 20)} is not supported. Use OpenAPI 3.0 to 3.2 or Swagger 2.0.")
    info = document.get("info")
    info = info if isinstance(info, Mapping) else {}
    notes: list[str] = []
    operations = list(_operations(document, notes))
    if not operations:
        raise Unreadable("The document has no operations: nothing under “paths” can be called.")
    _refuse_twins(operations)
    return Draft(
        kind="rest",
        name=plain(info.get("title"), 80),
        description=plain(info.get("summary") or info.get("description"), 300),
        upstream_url=upstream,
        operations=operations,
        document=text if isinstance(text, str) else text.decode("utf-8", "replace"),
        notes=notes,
    )


def _load(text: str | bytes) -> Mapping[str, Any]:
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > MOST_BYTES:
        raise Unreadable(f"The document is larger than {MOST_BYTES // 1024 // 1024} MB.")
    if b"\0" in raw:
        raise Unreadable("This is not a text document.")
    try:
        loaded = orjson.loads(raw) if raw.lstrip()[:1] in (b"{", b"[") else _load_yaml(raw.decode("utf-8-sig"))
    except orjson.JSONDecodeError as error:
        raise Unreadable(f"The JSON breaks off at line {error.lineno}, column {error.colno}: {error.msg}.") from None
    except UnicodeDecodeError:
        raise Unreadable("The document is not UTF-8 text.") from None
    if not isinstance(loaded, Mapping):
        raise Unreadable("This is not an OpenAPI document: it should be an object with “openapi”, “info” and “paths”.")
    return loaded


def _load_yaml(text: str) -> object:
    """Safe types only, and counted first: aliases and merge keys can blow a small file up without end."""
    depth = aliases = line = 0
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            line = event.start_mark.line + 1 if event.start_mark else line
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.AliasEvent):
                aliases += 1
            elif isinstance(event, yaml.ScalarEvent) and event.value == "<<" and not event.style:
                raise Unreadable(f"Line {line}: merge keys (<<) are not read. Write them out.")
            if depth > _DEPTH or aliases > _ALIASES:
                raise Unreadable(f"Line {line}: nested or aliased too deeply.")
        return yaml.load(text, Loader=yaml.CSafeLoader)  # it is the safe one
    except yaml.MarkedYAMLError as error:
        where = f"line {error.problem_mark.line + 1}" if error.problem_mark else "some line"
        raise Unreadable(f"The YAML cannot be read at {where}: {plain(error.problem, 120)}.") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError, OverflowError):
        raise Unreadable("The document is neither JSON nor YAML that we can read.") from None


def _operations(document: Mapping[str, Any], notes: list[str]) -> Iterator[DraftOperation]:
    paths = document.get("paths")
    if not isinstance(paths, Mapping):
        raise Unreadable("“paths” is missing or not an object.")
    found = 0
    for path, given in paths.items():
        if isinstance(path, str) and path.startswith("x-"):
            continue
        where = f"paths.{plain(str(path), 80)}"
        item = _followed(document, given, where)
        for method, written in item.items():
            if method in _LEFT_OUT:
                notes.append(f"{method.upper()} {plain(path, 80)} is left out: it is not an operation to permit.")
            if method not in _METHODS:
                continue
            template = _path(path, where)
            operation = _followed(document, written, f"{where}.{method}")
            if "servers" in operation or "servers" in item:
                notes.append(f"{method.upper()} {template} names a server of its own; calls go to the resource's.")
            found += 1
            if found > MOST_OPERATIONS:
                raise Unreadable(f"The document has more than {MOST_OPERATIONS} operations.")
            yield DraftOperation(
                key=f"{method.upper()} {template}",
                method=method.upper(),
                path=template,
                name=plain(operation.get("operationId"), 120),
                summary=plain(operation.get("summary") or operation.get("description"), 300),
            )


def _followed(document: Mapping[str, Any], node: Any, where: str) -> Mapping[str, Any]:
    """`node`, or what its `$ref` points to within the document."""
    for _ in range(10):
        if not isinstance(node, Mapping):
            raise Unreadable(f"{where} should be an object.")
        reference = node.get("$ref")
        if reference is None:
            return node
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise Unreadable(f"{where} refers to another document. Join them into one first.")
        target: Any = document
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, Mapping) else None
        if target is None:
            raise Unreadable(f"{where} refers to {plain(reference, 80)}, which is not in the document.")
        node = target
    raise Unreadable(f"{where}: references run in a circle.")


def _path(path: object, where: str) -> str:
    """A path template that the gateway can match in one way only."""
    if not isinstance(path, str) or not path.startswith("/"):
        raise Unreadable(f"{where}: a path must begin with “/”.")
    if len(path) > _LONGEST_PATH:
        raise Unreadable(f"{where}: the path is longer than {_LONGEST_PATH} characters.")
    names = _TEMPLATE.findall(path)
    literal = _TEMPLATE.sub("", path)
    if "{" in literal or "}" in literal or len(names) != len(set(names)):
        raise Unreadable(f"{where}: its {{parameters}} do not match up.")
    if not _PATH_CHARACTERS.match(literal):
        raise Unreadable(f"{where}: the path has characters that do not belong into a path.")
    if "//" in path or any(segment in (".", "..") for segment in path.split("/")):
        raise Unreadable(f"{where}: the path has empty or dot segments.")
    return path


def _refuse_twins(operations: list[DraftOperation]) -> None:
    """Two templates of the same shape are the same operation: which scope applies must not be a matter of luck."""
    seen: dict[str, str] = {}
    for operation in operations:
        shape = f"{operation.method} {_TEMPLATE.sub('{}', operation.path)}"
        if shape in seen:
            raise Unreadable(f"{seen[shape]} and {operation.key} cannot be told apart.")
        seen[shape] = operation.key


def _server(document: Mapping[str, Any], address: str) -> str:
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers and isinstance(servers[0], Mapping) else {}
    url = first.get("url", "/")
    variables = first.get("variables")
    if isinstance(url, str) and isinstance(variables, Mapping):
        for name, variable in list(variables.items())[:20]:
            if isinstance(variable, Mapping):
                url = url.replace(f"{{{name}}}", str(variable.get("default", "")))
    return _absolute(url, address)


def _swagger_server(document: Mapping[str, Any], address: str) -> str:
    schemes, host, base = document.get("schemes"), document.get("host"), document.get("basePath", "/")
    if not isinstance(host, str) or not isinstance(base, str):
        return _absolute(base, address)
    known = [scheme for scheme in schemes if scheme in ("https", "http")] if isinstance(schemes, list) else []
    scheme = "https" if "https" in known or not known else "http"
    return _absolute(f"{scheme}://{host}{base}", address)


def _absolute(url: object, address: str) -> str:
    """The upstream's address without a trailing slash, or nothing when the document leaves it open."""
    if not isinstance(url, str) or "{" in url:
        return ""
    try:
        joined = urljoin(address, url) if address else url
        parts = urlsplit(joined)
    except ValueError:
        return ""
    whole = parts.scheme in ("http", "https") and bool(parts.hostname)
    return joined.partition("#")[0].partition("?")[0].rstrip("/")[:500] if whole else ""
