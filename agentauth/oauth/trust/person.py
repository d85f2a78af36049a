"""Whom an identity provider means: its subject is one of the tenant's members, or nobody. No member is ever made.

The first time by a verified e-mail address, from then on by the link of issuer and subject that was made then.
"""

from typing import Any

from agentauth.agents.models import MemberLink, TrustedIssuer
from agentauth.oauth.last_use import note_use
from agentauth.oauth.trust.reading import NotGood, is_text, text
from audit.actions import Action
from audit.record import Actor, record
from tenants.models import Member


def member_of(issuer: TrustedIssuer, claims: dict[str, Any]) -> Member:
    """The active member that these verified claims are about. In the tenant's transaction. Raises NotGood."""
    subject = text(claims, "sub")
    link = _find(issuer, subject)
    if link is None:
        link = _link(issuer, subject, _by_email(issuer, claims))
    member: Member = link.member
    if not member.is_active:
        raise NotGood("member_inactive", "The person that it names is not an active member.")
    # ID-JAG: who the issuer believes this person to be here; if it is mistaken, nothing else it says can be used
    if claims.get("aud_sub", str(member.id)) != str(member.id):
        raise NotGood("member_differs", "aud_sub names another member.")
    note_use(link)
    return member


def _find(issuer: TrustedIssuer, subject: str) -> MemberLink | None:
    links = MemberLink.objects.filter(tenant=issuer.tenant_id, trusted_issuer=issuer, subject=subject)
    return links.select_related("member__user").first()


def _by_email(issuer: TrustedIssuer, claims: dict[str, Any]) -> Member:
    """An address counts if the issuer verified it, or if the tenant said that it speaks for the domain."""
    email = claims.get("email")
    if not is_text(email) or not email.isascii() or email.count("@") != 1:
        raise NotGood("member_unknown", "It names nobody who is known here: email is missing.")
    email = email.lower()
    domain = email.rpartition("@")[2]
    if issuer.email_domains and domain not in issuer.email_domains:
        raise NotGood("email_domain", "This issuer does not speak for the domain of email.")
    if claims.get("email_verified", bool(issuer.email_domains)) is not True:
        raise NotGood("email_unverified", "email_verified must be true.")
    members = Member.objects.filter(tenant=issuer.tenant_id, user__email=email)
    member = members.select_related("user").first()
    if member is None:
        raise NotGood("member_unknown", "It names nobody who is a member here.")
    return member


def _link(issuer: TrustedIssuer, subject: str, member: Member) -> MemberLink:
    made = MemberLink(tenant_id=issuer.tenant_id, trusted_issuer=issuer, subject=subject, member=member)
    MemberLink.objects.bulk_create([made], ignore_conflicts=True)  # somebody else may be at it at this moment
    link = _find(issuer, subject)
    if link is None or link.member_id != member.id:
        raise NotGood("member_collision", "This person is known from there under another subject.")
    if link.pk == made.pk:
        record(
            Action.MEMBER_LINKED,
            tenant_id=issuer.tenant_id,
            actor=Actor("issuer", str(issuer.id)),
            member_id=member.id,
            subject_kind="issuer",
            subject=str(issuer.id),
            details={"issuer": issuer.issuer},
        )
    return link
