"""What one call brings along is refused or recorded; it never ends the record for the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentauth.gateway.ledger import Ledger, Unrecorded
from agentauth.grants.arguments import BadJSON, read_json
from tests.gateway.conftest import Stage

JSON = ("Content-Type", "application/json")
READ_DIFFERENTLY = {
    "an integer beyond 64 bits": b'{"n": 99999999999999999999999999}',
    "a negative one": b'{"n": -9223372036854775809}',
    "an integer of a thousand digits": b'{"n": ' + b"9" * 1000 + b"}",
    "a number beyond a double": b'{"n": 1e999}',
    "half of a surrogate pair": b'{"n": "\\ud800"}',
    "half of one in a name": b'{"\\uDFFF": 1}',
}


@pytest.mark.parametrize("case", READ_DIFFERENTLY)
def test_json_that_servers_read_differently_is_not_read(case: str) -> None:
    with pytest.raises(BadJSON):
        read_json(READ_DIFFERENTLY[case])


def test_json_up_to_64_bits_and_whole_surrogate_pairs_are_read() -> None:
    body = b'{"a": 18446744073709551615, "b": -9223372036854775808, "c": 1.5e300, "d": "\\ud83d\\ude00"}'
    assert read_json(body) == {"a": 2**64 - 1, "b": -(2**63), "c": 1.5e300, "d": "😀"}


@pytest.mark.parametrize("case", READ_DIFFERENTLY)
def test_a_person_is_not_asked_about_what_cannot_be_shown(stage: Stage, case: str) -> None:
    answer = stage.call("POST", "/rooms/meeting/book", JSON, body=READ_DIFFERENTLY[case])
    assert answer.status == 400
    assert stage.upstream.seen == []
    assert stage.events("approval.asked") == []
    assert stage.call("GET", "/rooms").status == 200  # the worker goes on for everybody


class Broken:
    """A call at which the writer stumbles in a way that nobody foresaw."""

    answer: asyncio.Future[Any]
    tenant_id = None

    def subjects(self) -> list[str]:
        raise TypeError("nobody foresaw this")


@pytest.mark.django_db(transaction=True)
def test_a_call_that_breaks_the_writer_is_refused_and_the_next_one_passes() -> None:
    async def both() -> None:
        ledger = Ledger()
        writer = asyncio.create_task(ledger.run())
        try:
            for _ in range(2):  # a writer that had died would leave the second waiting for ever
                with pytest.raises(Unrecorded):
                    await asyncio.wait_for(ledger.admit(Broken()), 5)  # type: ignore[arg-type]
            assert not writer.done()
        finally:
            writer.cancel()

    asyncio.run(both())
