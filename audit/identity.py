"""Under which name and with which key this installation signs the record of a tenant."""

from urllib.parse import urlsplit

from django.conf import settings

from agentauth.embedded import paths
from audit.checkpoint import LogKey, Verifier, load_key, make_key


def origin(slug: str) -> str:
    """The name of a tenant's log: where the installation is and whose log it is, without a scheme."""
    base = urlsplit(settings.KNOBS.base_url)
    return f"{base.netloc}{base.path}/t/{slug}"


def signing_key() -> LogKey:
    """The key of this installation. Raises NoLogKey: a missing key is never replaced in silence."""
    return load_key(paths.secrets_dir())


def first_key() -> LogKey:
    """The key, made when this installation has signed nothing yet."""
    return make_key(paths.secrets_dir())


def verifier(slug: str) -> Verifier:
    """What auditors of this tenant verify with. Raises NoLogKey."""
    return signing_key().verifier(origin(slug))
