"""A tenant's signing keys (ES256). The private part is sealed; only `signing.py` opens it."""

from django.db import models
from django.utils.timezone import now

from tenants.rls import TenantOwned


class SigningKey(TenantOwned):
    """`kid` is the JWK thumbprint (RFC 7638). Published until `unpublish_at`, signs while it is the newest active."""

    kid = models.CharField(max_length=64)
    public_jwk = models.JSONField()
    sealed_private = models.BinaryField()
    created_at = models.DateTimeField(default=now)
    signs_from = models.DateTimeField(default=now)
    retired_at = models.DateTimeField(null=True, blank=True)  # signs no more
    unpublish_at = models.DateTimeField(null=True, blank=True)  # verifies no more

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "kid"], name="one_key_per_kid")]
