"""One event's proof, and the cheap look at a tenant's whole log."""

from __future__ import annotations

import pytest

from audit import identity, merkle, proof, sequencer
from audit.models import Leaf, Node
from tenants.rls import in_tenant, new_id
from tests.audit.writing import as_superuser, leaves, write
from tests.cast import House


@pytest.fixture
def big(acme: House) -> House:
    """More than two kept subtrees, in batches of odd sizes."""
    for count in (1, 254, 7, 300, 3):
        write(acme.tenant.id, count)
        sequencer.drain()
    return acme


def test_any_event_can_be_proved_against_the_newest_checkpoint(big: House) -> None:
    found = leaves(big.tenant.id)
    with in_tenant(big.tenant.id):
        assert Node.objects.filter(tenant=big.tenant).count() == len(found) // 256
        for index in {0, 1, 200, 255, 256, 511, 512, len(found) - 1}:
            shown = proof.proof_of(big.tenant, found[index][1])
            assert shown is not None
            assert shown.holds, shown.problem
            assert (shown.index, shown.size) == (index, len(found))
            head = identity.verifier(big.tenant.slug).open_checkpoint(shown.note)
            merkle.verify_inclusion(found[index][2], index, head.size, shown.path, head.root)


def test_an_event_without_a_place_has_no_proof_yet(acme: House) -> None:
    sequencer.drain()
    (fresh,) = write(acme.tenant.id, 1)
    with in_tenant(acme.tenant.id):
        assert proof.proof_of(acme.tenant, fresh) is None
        assert proof.proof_of(acme.tenant, new_id()) is None
        assert proof.intact(acme.tenant).waiting == 1


def test_another_tenants_event_cannot_be_proved(acme: House, globex: House) -> None:
    sequencer.drain()
    theirs = leaves(globex.tenant.id)[0][1]
    with in_tenant(acme.tenant.id):
        assert proof.proof_of(acme.tenant, theirs) is None
        assert proof.proof_of(globex.tenant, theirs) is None
        assert not Leaf.objects.filter(tenant=globex.tenant).exists()


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        ("UPDATE audit_event SET body = replace(body, 'tests', 'tasty') WHERE tenant_id = %s", "not what was hashed"),
        ("UPDATE audit_leaf SET hash = sha256('x') WHERE tenant_id = %s AND index = 3", "another root"),
        ("DELETE FROM audit_leaf WHERE tenant_id = %s AND index = 3", "are there"),
        ("UPDATE audit_node SET hash = sha256('x') WHERE tenant_id = %s AND index = 1", "another root"),
        ("UPDATE audit_checkpoint SET root = sha256('x') WHERE tenant_id = %s", "something else"),
        ("UPDATE audit_checkpoint SET note = 'x' WHERE tenant_id = %s", "note"),
    ],
)
def test_a_proof_that_does_not_hold_says_why(big: House, harm: str, told: str) -> None:
    event = leaves(big.tenant.id)[2][1]
    assert as_superuser(harm, [big.tenant.id])
    with in_tenant(big.tenant.id):
        shown = proof.proof_of(big.tenant, event)
    assert shown is not None
    assert told in shown.problem


def test_a_sound_log_is_intact(big: House) -> None:
    with in_tenant(big.tenant.id):
        health = proof.intact(big.tenant)
    assert health.ok
    assert (health.size, health.waiting, health.is_late) == (len(leaves(big.tenant.id)), 0, False)


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE audit_checkpoint SET root = sha256('x') WHERE tenant_id = %s",
        "UPDATE audit_checkpoint SET frontier = substr(frontier, 33) WHERE tenant_id = %s",
        "UPDATE audit_checkpoint SET note = replace(note, E'\\n\\n', E'\\n') WHERE tenant_id = %s",
        "DELETE FROM audit_checkpoint WHERE tenant_id = %s",
        "DELETE FROM audit_leaf WHERE tenant_id = %s AND index > 500",
    ],
)
def test_a_log_that_was_tampered_with_is_not_intact(big: House, harm: str) -> None:
    assert as_superuser(harm, [big.tenant.id])
    with in_tenant(big.tenant.id):
        assert not proof.intact(big.tenant).ok


def test_an_event_that_nobody_places_makes_the_log_late(acme: House) -> None:
    sequencer.drain()
    write(acme.tenant.id, 1)
    as_superuser("UPDATE audit_event SET at = at - interval '20 s' WHERE tenant_id = %s", [acme.tenant.id])
    with in_tenant(acme.tenant.id):
        assert proof.intact(acme.tenant).is_late
