"""What stands in the logs."""

import logging
import sys

import pytest

from agentauth.console.logs import Discreet


@pytest.mark.parametrize(
    "path",
    ["/sign-in/s3cr3t-token", "/t/acme/join/s3cr3t-token/", "/account/password/reset/key/s3cr3t-token/?x=1"],
)
def test_a_one_time_link_is_not_written(path: str) -> None:
    record = logging.LogRecord("django.request", logging.ERROR, "", 1, "Service Unavailable: %s", (path,), None)
    said = Discreet("{message}", style="{").format(record)
    assert "s3cr3t-token" not in said and "…" in said


def test_nor_in_a_traceback() -> None:
    try:
        raise RuntimeError("broke at /sign-in/s3cr3t-token")
    except RuntimeError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "failed", (), sys.exc_info())
    assert "s3cr3t-token" not in Discreet("{message}", style="{").format(record)


def test_every_process_writes_its_log_so() -> None:
    formatters = {type(handler.formatter) for handler in logging.getLogger().handlers if handler.name == "stderr"}
    assert formatters == {Discreet}
