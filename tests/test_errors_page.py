"""docs/errors.md says every word that a refusal of the authorization server can leave on record, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from agentauth.oauth.errors import OAuthError
from tests.test_docs import CHECKOUT, subclasses

PAGE = CHECKOUT / "docs" / "errors.md"
ROOMS = (CHECKOUT / "agentauth" / "oauth", CHECKOUT / "agentauth" / "api")
ERRORS = {error.__name__ for error in (OAuthError, *subclasses(OAuthError))}
# Words that are put together while running, by how the code writes them
COMPOSED = {
    "f'agent_{_state(client)}'": {"agent_draft", "agent_suspended", "agent_retired", "agent_expired"},
    "f'assertion_{name}'": {"assertion_sub", "assertion_jti"},
    "f'{called}_of_another_client'": {"device_code_of_another_client", "auth_req_id_of_another_client"},
    "f'{called}_reused'": {"device_code_reused", "auth_req_id_reused"},
    "f'{kind}_answered'": {"device_answered", "backchannel_answered"},
    "f'{name}_unsupported'": {
        "request_unsupported", "request_uri_unsupported", "login_hint_token_unsupported", "user_code_unsupported",
    },
    "why.reason": set(),  # of NotGood, found where it is raised
    "reason": set(),  # of _flaw, found where it is called
    "refused.reason": set(),
}  # fmt: skip
ELSEWHERE = {"person_said_no", "user_code_wrong", "user_code_attempts"}  # recorded without an error being raised


def told() -> set[str]:
    return set(re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE))


def words_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: set[str] = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        said = [word.value for word in call.keywords if word.arg == "reason" and name in ERRORS | {"refused", "wrong"}]
        said += call.args[:1] if name == "NotGood" else call.args[2:3] if name == "_flaw" else []
        for value in said:
            if isinstance(value, ast.Name) and value.id in names:
                found.add(names[value.id])
            elif ast.unparse(value) in COMPOSED:
                found |= COMPOSED[ast.unparse(value)]
            else:
                constants = [one.value for one in ast.walk(value) if isinstance(one, ast.Constant)]
                assert constants, f"{path.name}:{value.lineno}: say in this test which words {ast.unparse(value)} makes"
                found |= {str(one) for one in constants}
    return found


def recorded() -> set[str]:
    return ELSEWHERE.union(*(words_of(path) for room in ROOMS for path in room.rglob("*.py")))


def test_every_word_on_record_is_explained_and_none_is_stale() -> None:
    assert sorted(recorded() - told()) == [], "not explained in docs/errors.md"
    assert sorted(told() - recorded()) == [], "explained, and never recorded"


def test_every_explanation_says_the_error_that_comes_with_it() -> None:
    codes = {error.code for error in (OAuthError, *subclasses(OAuthError))}
    for word, text in re.findall(r"### (\w+)\n\n(.+)", PAGE.read_text()):
        named, _, rest = text.partition(": ")
        assert set(re.findall(r"`(\w+)`", named)) <= codes and rest.count(".") >= 2, word
    assert "errors.md" in (CHECKOUT / "docs" / "agent-developer.md").read_text()
