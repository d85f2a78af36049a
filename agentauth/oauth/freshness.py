"""How long a fetched document may be used (RFC 9111 §4.2), a day at most. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

USUAL, MOST = 3600.0, 86400.0


def lifetime(headers: Mapping[str, str], *, usual: float = USUAL) -> float:
    """Seconds. `no-store` and `no-cache` mean none, nothing said `usual`; `max-age` counts before `Expires`.

    `headers` has lower-case names. Who must not ask too often sees to that.
    """
    said = headers.get("cache-control", "").lower()
    if "no-store" in said or "no-cache" in said:
        return 0.0
    found = re.search(r"(?:^|[,\s])max-age=\"?([0-9]{1,9})", said)
    if found is not None:
        lives = float(found[1])
    elif "expires" in headers:
        lives = _until(headers["expires"], headers.get("date", ""))
    else:
        return usual
    age = headers.get("age", "")
    return min(max(lives - (float(age) if re.fullmatch("[0-9]{1,9}", age) else 0.0), 0.0), MOST)


def _until(expires: str, date: str) -> float:
    """§5.3: what is not a date lies in the past."""
    try:
        ends = parsedate_to_datetime(expires)
        begins = parsedate_to_datetime(date) if date else datetime.now(UTC)
        return (ends - begins).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
