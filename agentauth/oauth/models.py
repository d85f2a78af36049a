"""What the authorization server remembers between two requests: hashes of single-use things, each with an expiry.

The tables are partitioned by it (`partitions.py`), so a unique constraint holds the expiry too. Hashes of our own
random bits cannot meet by chance; what others choose is spent by `spent.py`.
"""

from datetime import datetime

from django.db import models
from django.utils.timezone import now

from agentauth.agents.models import Agent
from agentauth.grants.models import Grant
from agentauth.keys.sealed import SealedField
from agentauth.resources.models import Resource
from tenants.models import Member
from tenants.rls import TenantForeignKey, TenantOwned


class AuthorizationCode(TenantOwned):
    """RFC 6749 §4.1.2, RFC 7636: bound to client, redirect URI, challenge, resource, grant; spent once under a lock."""

    code_hash = models.BinaryField(max_length=32)
    agent = TenantForeignKey(Agent, models.CASCADE, related_name="+")
    grant = TenantForeignKey(Grant, models.CASCADE, related_name="+")
    member = TenantForeignKey(Member, models.CASCADE, related_name="+")
    resource = TenantForeignKey(Resource, models.CASCADE, related_name="+")
    redirect_uri = models.CharField(max_length=500)
    redirect_uri_given = models.BooleanField(default=True)
    code_challenge = models.CharField(max_length=128)
    scope = models.TextField()
    nonce = models.CharField(max_length=255, blank=True, default="")
    auth_time = models.DateTimeField(default=now)
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    spent_at = models.DateTimeField(null=True, blank=True)
    family = models.UUIDField(null=True)  # of the refresh tokens that came of it
    access_jti = models.UUIDField(null=True)  # of the access token that came of it
    protocol_scope = models.CharField(max_length=60, blank=True, default="")
    authorization_details = models.JSONField(default=list, blank=True)  # RFC 9396, as allowed
    acr = models.CharField(max_length=100, blank=True, default="")  # how the person had signed in (RFC 9470)
    jkt = models.CharField(max_length=64, blank=True, default="")  # bound to this key (RFC 9449 §10)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "code_hash", "expires_at"], name="one_code_per_hash")]
        indexes = [models.Index(fields=["tenant", "access_jti"])]


class RefreshToken(TenantOwned):
    """Opaque, hashed, rotated. A second use of one revokes its whole family (OAuth 2.1 §4.3.1)."""

    token_hash = models.BinaryField(max_length=32)
    family = models.UUIDField()
    agent = TenantForeignKey(Agent, models.CASCADE, related_name="+")
    grant = TenantForeignKey(Grant, models.CASCADE, related_name="+")
    resource = TenantForeignKey(Resource, models.CASCADE, related_name="+")
    scope = models.TextField()
    auth_time = models.DateTimeField(default=now)
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    family_expires_at = models.DateTimeField()
    spent_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    access_jti = models.UUIDField(null=True)  # of the access token issued with it
    authorization_details = models.JSONField(default=list, blank=True)
    acr = models.CharField(max_length=100, blank=True, default="")
    jkt = models.CharField(max_length=64, blank=True, default="")  # a public client's is bound (RFC 9449 §5)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "token_hash", "family_expires_at"], name="one_refresh_token_per_hash"
            )
        ]
        indexes = [
            models.Index(fields=["tenant", "family"]),
            models.Index(fields=["tenant", "grant"]),
        ]


class SpentOnce(TenantOwned):
    """What was used and must not be again until it expires: assertion ids, consent forms. The kind is in the key."""

    kind = models.CharField(max_length=20)
    value_hash = models.BinaryField(max_length=32)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "kind", "value_hash", "expires_at"], name="spent_only_once")
        ]


class PushedRequest(TenantOwned):
    """RFC 9126: a request that its client sent ahead. The first browser that brings its address has one answer."""

    uri_hash = models.BinaryField(max_length=32)
    agent = TenantForeignKey(Agent, models.CASCADE, related_name="+")
    parameters = models.JSONField()  # pairs, as they came, without the client's credentials
    browser = models.CharField(max_length=64, blank=True, default="")
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    spent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "uri_hash", "created_at"], name="one_pushed_request_per_hash")
        ]


class AnsweredElsewhere(TenantOwned):
    """A client waits, and asks again and again, until its person has answered in another place than it can see."""

    agent = TenantForeignKey(Agent, models.CASCADE, related_name="+")
    resource = TenantForeignKey(Resource, models.CASCADE, related_name="+")
    grant = TenantForeignKey(Grant, models.CASCADE, related_name="+", null=True)
    scope = models.TextField()  # asked for; once allowed, what was allowed of it
    protocol_scope = models.CharField(max_length=60, blank=True, default="")
    authorization_details = models.JSONField(default=list, blank=True)  # RFC 9396
    acr = models.CharField(max_length=100, blank=True, default="")
    auth_time = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=now)
    expires_at = models.DateTimeField()
    interval = models.PositiveSmallIntegerField(default=5)  # seconds between two polls
    polled_at = models.DateTimeField(null=True, blank=True)
    allowed_at = models.DateTimeField(null=True, blank=True)
    refused_at = models.DateTimeField(null=True, blank=True)
    spent_at = models.DateTimeField(null=True, blank=True)
    access_jti = models.UUIDField(null=True)  # of the access token that came of it

    class Meta:
        abstract = True

    @property
    def is_open(self) -> bool:
        """May still be answered."""
        return self.allowed_at is None and self.refused_at is None and self.expires_at > now()

    @property
    def answered_at(self) -> datetime | None:
        return self.allowed_at or self.refused_at


class DeviceRequest(AnsweredElsewhere):
    """RFC 8628: a device asks, a person types its code in elsewhere. Who types it first has it; answered once, and its
    device code is redeemed once."""

    device_hash = models.BinaryField(max_length=32)
    user_hash = models.BinaryField(max_length=32)
    member = TenantForeignKey(Member, models.CASCADE, related_name="+", null=True)  # who typed the code in

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "device_hash", "expires_at"], name="one_device_request_per_hash"),
            models.UniqueConstraint(
                fields=["tenant", "user_hash", "expires_at"], name="one_device_request_per_user_code"
            ),
        ]
        indexes = [models.Index(fields=["tenant", "access_jti"])]


class BackchannelRequest(AnsweredElsewhere):
    """OpenID Connect CIBA: an agent asks its person, who answers in their inbox. Answered once, redeemed once."""

    auth_req_hash = models.BinaryField(max_length=32)
    member = TenantForeignKey(Member, models.CASCADE, related_name="backchannel_requests")  # who was named
    binding_message = models.CharField(max_length=200, blank=True, default="")  # hostile text
    acr_values = models.CharField(max_length=2048, blank=True, default="")  # any of these will do, parted by spaces
    ping_url = models.CharField(max_length=500, blank=True, default="")  # empty: the client polls
    # `auth_req_id` and `client_notification_token`, sealed by the key ring; gone once the client has been told
    sealed_ping_token = SealedField(purpose="oauth.ping", null=True)
    pinged_at = models.DateTimeField(null=True, blank=True)  # the last try

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "auth_req_hash", "expires_at"], name="one_backchannel_request")
        ]
        indexes = [models.Index(fields=["tenant", "member"])]


class Disclosure(TenantOwned):
    """A person has let an agent learn this about them (`profile` or `email`); what is new is asked about."""

    agent = TenantForeignKey(Agent, models.CASCADE, related_name="+")
    member = TenantForeignKey(Member, models.CASCADE, related_name="+")
    scope = models.CharField(max_length=20)
    allowed_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "agent", "member", "scope"], name="disclosed_once")]
