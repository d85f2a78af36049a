"""Pages that ask somebody's server, which may take seconds: no transaction is open meanwhile.

What is asked comes out through the door (`HandedOut`), the server is asked, and with its answer one goes in again.
"""

from typing import Any

from django.http import HttpResponse


class HandedOut(HttpResponse):
    """Not an answer: `what` the view behind the door found."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what
