"""How long a fetched document may be used (RFC 9111), within bounds of ours. Pure."""

import re
from collections.abc import Mapping

LEAST, USUAL, MOST = 60.0, 3600.0, 86400.0


def lifetime(headers: Mapping[str, str]) -> float:
    """Seconds. `no-store` and `no-cache` mean the least, nothing said means an hour."""
    said = headers.get("cache-control", "").lower()
    if "no-store" in said or "no-cache" in said:
        return LEAST
    found = re.search(r"(?:^|[,\s])max-age=\"?([0-9]{1,9})", said)
    if found is None:
        return USUAL
    age = headers.get("age", "")
    return min(max(float(found[1]) - (float(age) if re.fullmatch("[0-9]{1,9}", age) else 0.0), LEAST), MOST)
