"""How the gateway's challenges are written (RFC 6750 §3, RFC 9110 §11.6.1)."""

from __future__ import annotations

import re

from tests.gateway.conftest import Stage

_PARAMETER = re.compile(r'([a-z_]+)="([^"]*)"')


def test_a_challenge_says_each_thing_once_in_plain_characters(stage: Stage) -> None:
    lacking = stage.bearer(scope="rooms:read")
    for headers in ([], [("Authorization", "Bearer x")], stage.bearer(exp=5), lacking):
        answer = stage.door.call("POST", stage.path("/rooms/meeting/enter"), headers)
        assert answer.status in (401, 403)
        for challenge in answer.all("www-authenticate"):
            scheme, _, rest = challenge.partition(" ")
            names = [name for name, _ in _PARAMETER.findall(rest)]
            assert scheme in ("Bearer", "DPoP") and len(names) == len(set(names)), challenge
            assert all(0x20 <= ord(character) < 0x7F for character in challenge) and "\\" not in challenge
