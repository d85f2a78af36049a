"""OpenAPI documents: real shapes are read, hostile and broken ones are refused with a sentence."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentauth.resources import openapi
from agentauth.resources.drafts import Unreadable

MINIMAL = {"openapi": "3.1.0", "info": {"title": "Rooms"}, "paths": {"/rooms": {"get": {"summary": "All rooms"}}}}


def _with(**changes: Any) -> str:
    return json.dumps(MINIMAL | changes)


@pytest.mark.parametrize("version", ["3.0.0", "3.0.4", "3.1.1", "3.2.0"])
def test_a_json_document_is_read(version: str):
    draft = openapi.read(_with(openapi=version, servers=[{"url": "https://api.example/v1/"}]))
    (operation,) = draft.operations
    assert (draft.kind, draft.name, draft.upstream_url) == ("rest", "Rooms", "https://api.example/v1")
    assert (operation.key, operation.method, operation.path) == ("GET /rooms", "GET", "/rooms")
    assert operation.summary == "All rooms"


def test_a_yaml_document_is_read():
    text = """
openapi: 3.0.3
info: {title: Rooms, description: "Rooms\\nto enter"}
servers:
  - url: https://{region}.api.example/{base}
    variables: {region: {default: eu}, base: {default: v2}}
paths:
  /rooms/{room}:
    parameters: [{name: room, in: path, required: true}]
    get: &see {operationId: seeRoom}
    delete: {operationId: dropRoom}
    trace: {}
"""
    draft = openapi.read(text)
    assert draft.upstream_url == "https://eu.api.example/v2"
    assert draft.description == "Rooms to enter"
    assert [operation.key for operation in draft.operations] == ["GET /rooms/{room}", "DELETE /rooms/{room}"]
    assert draft.notes == ["TRACE /rooms/{room} is left out: it is not an operation to permit."]
    assert draft.document == text


def test_swagger_2_is_read():
    document = {
        "swagger": "2.0",
        "info": {"title": "Old"},
        "host": "api.example",
        "basePath": "/v1",
        "schemes": ["http", "https"],
        "paths": {"/pets": {"post": {}}},
    }
    draft = openapi.read(json.dumps(document))
    assert (draft.upstream_url, draft.operations[0].key) == ("https://api.example/v1", "POST /pets")


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ([{"url": "/v1"}], "https://docs.example/v1"),
        (None, "https://docs.example"),
        ([], "https://docs.example"),
        ([{"url": "v1"}], "https://docs.example/api/v1"),
        ([{"url": "https://other.example?x#y"}], "https://other.example"),
        ([{"url": "https://{tenant}.example"}], ""),
        ([{"url": "ftp://api.example"}], ""),
        ([{"url": "https://[::1"}], ""),
        ([{"url": 5}], ""),
    ],
)
def test_the_servers_address_may_be_relative_to_the_documents(servers: Any, expected: str):
    changes = {} if servers is None else {"servers": servers}
    draft = openapi.read(_with(**changes), address="https://docs.example/api/openapi.json")
    assert draft.upstream_url == expected


def test_a_document_that_was_pasted_leaves_a_relative_address_open():
    assert openapi.read(_with(servers=[{"url": "/v1"}])).upstream_url == ""


def test_references_within_the_document_are_followed():
    components = {"pathItems": {"a/b": {"get": {"$ref": "#/components/x~0operation"}}}, "x~operation": {"summary": "S"}}
    draft = openapi.read(_with(paths={"/a": {"$ref": "#/components/pathItems/a~1b"}}, components=components))
    assert draft.operations[0].summary == "S"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not an OpenAPI document"),
        ("hello", "not an OpenAPI document"),
        ("[]", "not an OpenAPI document"),
        ("{}", "neither"),
        ('{"openapi": "3.1.0"', "line 1"),
        ("openapi: 3.1.0\n  paths: [", "line 2"),
        (b"\xff\xfe\x00", "not a text"),
        (b"openapi: \xff", "UTF-8"),
        (_with(openapi="4.0.0"), "Version 4.0.0 is not supported"),
        (_with(openapi=3.1), None),
        (json.dumps({"swagger": "1.2"}), "Version 1.2"),
        (_with(paths=None), "“paths” is missing"),
        (_with(paths={}), "no operations"),
        (_with(paths={"/a": {}}), "no operations"),
        (_with(paths={"/a": []}), "paths./a should be an object"),
        (_with(paths={"/a": {"get": "x"}}), "paths./a.get should be an object"),
        (_with(paths={"a": {"get": {}}}), "must begin with “/”"),
        (_with(paths={"/a/../b": {"get": {}}}), "dot segments"),
        (_with(paths={"/a//b": {"get": {}}}), "empty"),
        (_with(paths={"/a/./b": {"get": {}}}), "dot segments"),
        (_with(paths={"/a?x=1": {"get": {}}}), "characters"),
        (_with(paths={"/a\\b": {"get": {}}}), "characters"),
        (_with(paths={"/ä": {"get": {}}}), "characters"),
        (_with(paths={"/a/{x": {"get": {}}}), "match up"),
        (_with(paths={"/a/{x}/{x}": {"get": {}}}), "match up"),
        (_with(paths={"/" + "a" * 200: {"get": {}}}), "longer than 180"),
        (_with(paths={"/a/{x}": {"get": {}}, "/a/{y}": {"get": {}}}), "cannot be told apart"),
        (_with(paths={"/a": {"$ref": "https://evil.example/x.json"}}), "another document"),
        (_with(paths={"/a": {"$ref": "file:///etc/passwd"}}), "another document"),
        (_with(paths={"/a": {"$ref": "#/nowhere"}}), "not in the document"),
        (_with(paths={"/a": {"$ref": "#/paths/~1a"}}), "circle"),
        (_with(paths={f"/a{at}": {"get": {}} for at in range(2001)}), "more than 2000"),
        ("a: &a [*a]\nopenapi: 3.1.0\npaths: {/a: {get: {}}}", None),
        ("openapi: 3.1.0\nx: {<<: {a: 1}}\npaths: {}", "merge keys"),
        ("x: !!python/object/apply:os.system [id]", "cannot be read"),
        ("x: 2026-99-99", "neither JSON nor YAML"),
        ("? {a: 1}\n: 2", "cannot be read"),
        ("- " * 5000, "too deeply"),
        ('{"a":' * 3000, "JSON breaks off"),
        ("a: &x 1\n" + "".join(f"b{at}: *x\n" for at in range(300)), "too deeply"),
    ],
)
def test_a_document_that_is_broken_or_hostile_is_refused_with_the_reason(text: str | bytes, says: str | None):
    if says is None:  # harmless oddity: read all the same
        assert openapi.read(text).operations
        return
    with pytest.raises(Unreadable) as refused:
        openapi.read(text)
    assert says in refused.value.reason
    assert refused.value.reason.isprintable() and len(refused.value.reason) < 300


def test_a_document_that_is_too_large_is_refused_before_it_is_read():
    begun = time.monotonic()
    with pytest.raises(Unreadable, match="larger than 5 MB"):
        openapi.read(" " * (5 * 1024 * 1024 + 1))
    assert time.monotonic() - begun < 0.5


def test_aliases_that_multiply_are_refused_at_once():
    lines = ["l0: &l0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"l{at}: &l{at} [{','.join([f'*l{at - 1}'] * 9)}]" for at in range(1, 60)]
    begun = time.monotonic()
    with pytest.raises(Unreadable):
        openapi.read("\n".join(lines))
    assert time.monotonic() - begun < 1


def test_words_of_the_document_are_one_line_of_visible_characters():
    hostile = "Safe\u202e\u200b\x1b[31m\n<script>alert(1)</script>" + "x" * 500
    draft = openapi.read(_with(info={"title": hostile}, paths={"/a": {"get": {"summary": hostile}}}))
    for text, length in ((draft.name, 80), (draft.operations[0].summary, 300)):
        assert text.startswith("Safe[31m <script>") and len(text) <= length and text.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["get", "post", "$ref", "servers", "url", "parameters", "/a", "x"]), inner)
    ),
    max_leaves=12,
)


@given(paths=JSON, servers=JSON, info=JSON)
def test_whatever_a_document_holds_it_is_read_or_refused(paths: Any, servers: Any, info: Any):
    try:
        draft = openapi.read(json.dumps({"openapi": "3.1.0", "paths": paths, "servers": servers, "info": info}))
    except Unreadable:
        return
    assert draft.operations and all(operation.path.startswith("/") for operation in draft.operations)


@given(text=st.text(alphabet="{}[]&*<>!?:-, \n'\"#|ab01\t%@", max_size=60))
def test_whatever_text_is_pasted_it_is_read_or_refused(text: str):
    with pytest.raises(Unreadable):
        openapi.read(text)
