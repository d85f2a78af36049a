"""The JSON that nobody may read in two ways, made from the recipes in `tests/corpora/json_oddities.json`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CORPUS = json.loads((Path(__file__).parents[1] / "corpora" / "json_oddities.json").read_text())
_MANY = re.compile(r"@(.)\*(\d+)")


def odd_texts(good: dict[str, Any], *, before: str = "", after: str = "") -> Iterator[tuple[str, bytes]]:
    """Why it is wrong, and the text: `good` with an odd member more, and `good` whole with something odd around it.

    `before` and `after` stand around the object where it is a part of something larger.
    """
    whole = json.dumps(good)
    for case in _CORPUS["inside"]:
        more = _MANY.sub(lambda found: found[1] * int(found[2]), case["text"])
        yield case["why"], _encoded(f"{before}{whole[:-1]}, {more}}}{after}", case)
    for case in _CORPUS["around"]:
        yield case["why"], _encoded(case["text"].replace("@", before + whole + after), case)


def _encoded(text: str, case: dict[str, str]) -> bytes:
    return text.encode(case.get("encoding", "utf-8"))
