"""What every verb on a record needs: the complaint that it does not fit now, and its actor as the record names it."""

from audit.record import Actor
from tenants.models import Member


class WrongState(Exception):
    """The act does not fit the state that the thing is in; the message says why, in words for people."""


def actor_of(by: Member | Actor) -> Actor:
    return by if isinstance(by, Actor) else Actor("member", str(by.id))
