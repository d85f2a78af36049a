"""How a line of the log is written: what happened, never a link that would let its reader in."""

import logging
import re

_SECRET_LINKS = re.compile(r"(/(?:sign-in|join|account/password/reset/key)/)[^\s/\"'?]+")


class Discreet(logging.Formatter):
    """A formatter that blanks one-time links, wherever they stand: message, arguments or traceback."""

    def format(self, record: logging.LogRecord) -> str:
        return _SECRET_LINKS.sub(r"\1…", super().format(record))
