"""Handing work to the queue without waiting for it: a queue that is down is found out within a second."""

from typing import Any

_IMPATIENT = {"max_retries": 0, "connect_retries_timeout": 1, "socket_connect_timeout": 1, "socket_timeout": 1}


def hand_over(task: Any, *args: str) -> None:
    """Raises what the queue raises when it is down: the clock tries again, a person waits."""
    with task.app.connection_for_write(transport_options=_IMPATIENT) as connection:
        task.apply_async(args, connection=connection, retry=False)
