"""The tables of the record. The application may only insert events; the sequencer alone places them."""

from typing import TYPE_CHECKING

from django.db import models, transaction
from django.utils.timezone import now

from audit.actions import Action
from audit.record import Actor, record
from tenants.rls import TenantOwned

if TYPE_CHECKING:
    from tenants.models import Member


class Event(TenantOwned):
    """One line of the record, never changed. `body` is what was hashed; the columns repeat it for searching.

    Partitioned by month on `id`, a UUIDv7. Ids are kept, not names: who a person was is looked up when read.
    """

    at = models.DateTimeField()
    action = models.CharField(max_length=40)
    actor_kind = models.CharField(max_length=10)  # member, agent, operator, task, anonymous
    actor = models.CharField(max_length=80)  # the actor's id, or the task's name
    agent_id = models.UUIDField(null=True)
    member_id = models.UUIDField(null=True)  # the person it was done for, or who did it
    grant_id = models.UUIDField(null=True)
    resource_id = models.UUIDField(null=True)
    operation = models.CharField(
        max_length=200, default=""
    )  # operation key: "POST /rooms/{room}/enter" or a tool's name
    subject_kind = models.CharField(max_length=20, default="")
    subject = models.CharField(max_length=80, default="")
    decision = models.CharField(max_length=10, default="")  # allow, refuse, ask
    reasons = models.JSONField(default=list)
    outcome = models.CharField(max_length=20, default="")  # ok, upstream_error, timeout, revoked, cancelled, lost …
    status = models.IntegerField(null=True)  # HTTP status answered
    latency_us = models.BigIntegerField(null=True)
    args_hash = models.CharField(max_length=64, default="")
    call_id = models.UUIDField(null=True)  # joins intent and outcome
    ip = models.CharField(max_length=45, default="")
    details = models.JSONField(default=dict)
    body = models.TextField()

    class Meta:
        managed = False  # partitioned: made in SQL by the migration
        db_table = "audit_event"


class Unsequenced(models.Model):
    """An event that has no place yet. Written with it, deleted when it gets one: a queue, never a watermark."""

    id = models.UUIDField(primary_key=True)  # of the event
    tenant = models.ForeignKey(  # the event's, which is checked there
        "tenants.Tenant", models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )

    class Meta:
        db_table = "audit_unsequenced"


class Leaf(models.Model):
    """An event's place in its tenant's tree: `hash` = SHA-256(0x00 ‖ body), RFC 9162 §2.1.1."""

    pk = models.CompositePrimaryKey("tenant_id", "index")
    tenant = models.ForeignKey("tenants.Tenant", models.PROTECT, related_name="+", db_index=False)
    index = models.BigIntegerField()
    event_id = models.UUIDField()
    hash = models.BinaryField(max_length=32)

    class Meta:
        db_table = "audit_leaf"
        constraints = [models.UniqueConstraint(fields=["tenant", "event_id"], name="one_leaf_an_event")]


class Node(models.Model):
    """The root of a complete subtree of 256, 65,536 … leaves, so that a proof need not read every leaf."""

    pk = models.CompositePrimaryKey("tenant_id", "level", "index")
    tenant = models.ForeignKey("tenants.Tenant", models.PROTECT, related_name="+", db_index=False)
    level = models.SmallIntegerField()
    index = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)

    class Meta:
        db_table = "audit_node"


class Checkpoint(models.Model):
    """A signed tree head (C2SP signed note) over the first `size` leaves of a tenant."""

    pk = models.CompositePrimaryKey("tenant_id", "size")
    tenant = models.ForeignKey("tenants.Tenant", models.PROTECT, related_name="+", db_index=False)
    size = models.BigIntegerField()
    root = models.BinaryField(max_length=32)
    frontier = models.BinaryField()  # the compact range: what the next batch needs, not a proof
    note = models.TextField()
    at = models.DateTimeField(default=now)

    class Meta:
        db_table = "audit_checkpoint"


class Export(TenantOwned):
    """An evidence export: what was asked for, how far it is, where the bundle lies."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        READY = "ready"
        FAILED = "failed"
        CANCELLED = "cancelled"

    class Format(models.TextChoices):
        CSV = "csv"
        JSONL = "jsonl"

    requested_by = models.UUIDField()  # member id
    requested_at = models.DateTimeField(default=now)
    since = models.DateTimeField()
    until = models.DateTimeField()
    query = models.TextField(default="", blank=True)
    format = models.CharField(max_length=10, choices=Format.choices, default=Format.JSONL)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    rows_total = models.BigIntegerField(default=0)
    rows_done = models.BigIntegerField(default=0)
    tree_size = models.BigIntegerField(null=True)  # of the checkpoint that this export proves against
    first_index = models.BigIntegerField(
        null=True
    )  # the range of leaves that is looked through; fixed when the job first runs
    end_index = models.BigIntegerField(null=True)
    last_index = models.BigIntegerField(null=True)  # written up to here; a resumed job goes on after it
    bytes_done = models.BigIntegerField(default=0)  # of the data file when last_index was noted
    run = models.UUIDField(null=True)  # the worker that holds the job; another one's writes are refused
    heartbeat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    bundle = models.CharField(max_length=200, default="", blank=True)  # file name under the exports folder
    sha256 = models.CharField(max_length=64, default="", blank=True)
    size_bytes = models.BigIntegerField(default=0)
    failure = models.TextField(default="", blank=True)

    @property
    def is_over(self) -> bool:
        return self.state not in (self.State.QUEUED, self.State.RUNNING)

    def cancel(self, *, by: "Member") -> bool:
        """Stop a job that is not over; its worker notices at its next slice. False when it was over already."""
        with transaction.atomic():
            own = Export.objects.select_for_update().get(pk=self.pk)
            self.state = own.state
            if own.is_over:
                return False
            own.state = self.state = self.State.CANCELLED
            own.finished_at = self.finished_at = now()
            own.save(update_fields=["state", "finished_at"])
            record(
                Action.EXPORT_CANCELLED,
                tenant_id=own.tenant_id,
                actor=Actor("member", str(by.id)),
                member_id=by.id,
                subject_kind="export",
                subject=str(own.id),
            )
        return True
