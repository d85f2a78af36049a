"""A tenant's signing keys (ES256). The private part is sealed; only `signing.py` opens it."""

from django.db import models
from django.utils.timezone import now

from agentauth.keys.sealed import SealedField
from tenants.rls import TenantOwned


class SigningKey(TenantOwned):
    """`kid` is the JWK thumbprint (RFC 7638). Published until `unpublish_at`; of those not retired, the
    newest whose `signs_from` has come signs."""

    kid = models.CharField(max_length=64)
    public_jwk = models.JSONField()
    sealed_private = SealedField(purpose="signing")  # empty once it signs no more
    created_at = models.DateTimeField(default=now)
    signs_from = models.DateTimeField(default=now)
    retired_at = models.DateTimeField(null=True, blank=True)  # signs no more
    unpublish_at = models.DateTimeField(null=True, blank=True)  # verifies no more

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "kid"], name="one_key_per_kid")]
