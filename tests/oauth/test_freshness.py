"""How long a fetched document may be used (RFC 9111 §4.2), a day at most."""

import pytest

from agentauth.oauth.freshness import MOST, USUAL, lifetime

DAY = "Mon, 23 Nov 2026 10:00:00 GMT"
LATER = "Mon, 23 Nov 2026 10:20:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, USUAL),
        ({"cache-control": "max-age=600"}, 600),
        ({"cache-control": 'public, max-age="600"'}, 600),
        ({"cache-control": "max-age=600", "age": "100"}, 500),
        ({"cache-control": "max-age=600", "age": "soon"}, 600),
        ({"cache-control": "max-age=0"}, 0),
        ({"cache-control": "max-age=999999999"}, MOST),
        ({"cache-control": "s-max-age=7"}, USUAL),
        ({"cache-control": "No-Store, max-age=600"}, 0),
        ({"cache-control": "no-cache"}, 0),
        ({"date": DAY, "expires": LATER}, 1200),  # §5.3
        ({"date": DAY, "expires": LATER, "age": "200"}, 1000),
        ({"date": DAY, "expires": LATER, "cache-control": "max-age=600"}, 600),  # max-age counts before it
        ({"date": DAY, "expires": DAY}, 0),
        ({"date": DAY, "expires": "0"}, 0),  # §5.3: an invalid date is in the past
        ({"date": "soon", "expires": LATER}, 0),
        ({"date": DAY, "expires": "Mon, 23 Nov 2026 10:20:00"}, 0),  # of no time zone, against one with
    ],
    ids=str,
)
def test_what_the_headers_say_counts_within_bounds(headers: dict[str, str], seconds: float) -> None:
    assert lifetime(headers) == seconds


def test_where_nothing_is_said_the_caller_knows_how_long() -> None:
    assert (lifetime({}, usual=0), lifetime({"cache-control": "max-age=600"}, usual=0)) == (0, 600)
