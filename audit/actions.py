"""All that can be recorded. A word here is part of the public record: it is never renamed, only added."""

from enum import StrEnum


class Action(StrEnum):
    # Tenants and people
    TENANT_CREATED = "tenant.created"
    TENANT_CHANGED = "tenant.changed"
    MEMBER_INVITED = "member.invited"
    MEMBER_INVITATION_WITHDRAWN = "member.invitation_withdrawn"
    MEMBER_JOINED = "member.joined"
    MEMBER_ROLE_CHANGED = "member.role_changed"
    MEMBER_DEACTIVATED = "member.deactivated"
    MEMBER_SIGNED_IN = "member.signed_in"
    MEMBER_DISCLOSED = "member.disclosed"  # name or address, by the person, to an agent
    # Keys
    KEY_CREATED = "key.created"
    KEY_RETIRED = "key.retired"
    KEY_DISTRUSTED = "key.distrusted"  # nothing that it signed counts any more
    RING_ROTATED = "ring.rotated"  # what was sealed at rest is sealed under a new key
    # Agents
    AGENT_REGISTERED = "agent.registered"
    AGENT_SELF_REGISTERED = "agent.self_registered"
    AGENT_CHANGED = "agent.changed"
    AGENT_APPROVED = "agent.approved"
    AGENT_SUSPENDED = "agent.suspended"
    AGENT_LET_BACK = "agent.let_back"
    AGENT_RETIRED = "agent.retired"
    CREDENTIAL_ADDED = "credential.added"
    CREDENTIAL_RETIRED = "credential.retired"
    # Issuers besides ourselves
    ISSUER_TRUSTED = "issuer.trusted"
    ISSUER_SUSPENDED = "issuer.suspended"
    ISSUER_LET_BACK = "issuer.let_back"
    ISSUER_REMOVED = "issuer.removed"
    MEMBER_LINKED = "member.linked"  # whom an identity provider means by a subject
    MEMBER_UNLINKED = "member.unlinked"
    # Resources
    CATALOGUE_ENTRY_OFFERED = "catalogue.offered"
    RESOURCE_REGISTERED = "resource.registered"
    RESOURCE_CHANGED = "resource.changed"
    RESOURCE_PUBLISHED = "resource.published"
    RESOURCE_RETIRED = "resource.retired"
    RESOURCE_TOOLS_CHANGED = "resource.tools_changed"
    RESOURCE_CREDENTIAL_ADDED = "resource.credential_added"  # with which its own server asks about tokens
    RESOURCE_CREDENTIAL_RETIRED = "resource.credential_retired"
    # Grants
    GRANT_ASKED = "grant.asked"  # by an agent, of a person, in their inbox
    GRANT_GIVEN = "grant.given"
    GRANT_REFUSED = "grant.refused"
    GRANT_NARROWED = "grant.narrowed"
    GRANT_REVOKED = "grant.revoked"
    GRANT_EXPIRED = "grant.expired"
    APPROVAL_ASKED = "approval.asked"
    APPROVAL_GIVEN = "approval.given"
    APPROVAL_REFUSED = "approval.refused"
    APPROVAL_EXPIRED = "approval.expired"
    # The authorization server
    AUTHORIZATION_REFUSED = "authorization.refused"
    TOKEN_ISSUED = "token.issued"
    TOKEN_REFUSED = "token.refused"
    TOKEN_REVOKED = "token.revoked"
    TOKEN_REUSED = "token.reused"
    CLIENT_REFUSED = "client.refused"
    CLIENT_PING_FAILED = "client.ping_failed"  # it was to be told that its person has answered
    EXPIRED_REMOVED = "expired.removed"  # codes, refresh tokens and marks that ended long before
    # Calls through the gateway
    CALL_ALLOWED = "call.allowed"  # the intent, committed before anything goes upstream
    CALL_REFUSED = "call.refused"
    CALL_ASKED = "call.asked"
    CALL_FINISHED = "call.finished"  # the outcome, after
    CALL_LOST = "call.lost"  # an intent whose outcome nobody recorded in time
    # The record itself
    EXPORT_REQUESTED = "export.requested"
    EXPORT_FINISHED = "export.finished"
    EXPORT_FAILED = "export.failed"
    EXPORT_CANCELLED = "export.cancelled"
    EXPORT_DOWNLOADED = "export.downloaded"
    RECORD_SEARCHED = "record.searched"
