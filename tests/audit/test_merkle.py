"""Genuine proofs hold and forged ones do not: every case is data, in tests/corpora/merkle."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit import merkle, verify

CORPUS = Path(__file__).resolve().parents[1] / "corpora" / "merkle"


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in json.loads((CORPUS / f"{name}.json").read_text())]


def hashes(texts: list[str]) -> list[bytes]:
    return [bytes.fromhex(text) for text in texts]


def some_leaves(count: int) -> list[bytes]:
    return [hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(count)]


def test_known_entries_have_known_roots() -> None:
    known = json.loads((CORPUS / "roots.json").read_text())
    leaves = [merkle.leaf_hash(entry) for entry in hashes(known["entries"])]
    for size, root in enumerate(hashes(known["roots"])):
        assert merkle.root_of(leaves[:size]) == root
        assert verify._root(b"".join(leaves[:size])) == root, "the verifier's own calculation"


@pytest.mark.parametrize("case", cases("inclusion"))
def test_an_inclusion_proof_holds_only_when_it_is_genuine(case: dict[str, Any]) -> None:
    proof = (
        bytes.fromhex(case["leaf"]),
        case["index"],
        case["size"],
        hashes(case["path"]),
        bytes.fromhex(case["root"]),
    )
    if case["valid"]:
        merkle.verify_inclusion(*proof)
    else:
        with pytest.raises(merkle.ProofError):
            merkle.verify_inclusion(*proof)


@pytest.mark.parametrize("case", cases("consistency"))
def test_a_consistency_proof_holds_only_when_it_is_genuine(case: dict[str, Any]) -> None:
    proof = (
        case["first"],
        case["second"],
        hashes(case["path"]),
        bytes.fromhex(case["first_root"]),
        bytes.fromhex(case["second_root"]),
    )
    if case["valid"]:
        merkle.verify_consistency(*proof)
    else:
        with pytest.raises(merkle.ProofError):
            merkle.verify_consistency(*proof)


def test_every_proof_in_every_small_tree_is_made_and_holds() -> None:
    leaves = some_leaves(40)
    for size in range(1, len(leaves) + 1):
        subtree, root = merkle.subtree_of(leaves[:size]), merkle.root_of(leaves[:size])
        for index in range(size):
            path = merkle.inclusion_path(index, size, subtree)
            merkle.verify_inclusion(leaves[index], index, size, path, root)
            earlier = merkle.root_of(leaves[: index + 1])
            grown = merkle.consistency_path(index + 1, size, subtree)
            merkle.verify_consistency(index + 1, size, grown, earlier, root)


@settings(max_examples=200, deadline=None)
@given(size=st.integers(2, 600), seed=st.integers(0, 2**32))
def test_a_proof_with_any_bit_flipped_does_not_hold(size: int, seed: int) -> None:
    dice = random.Random(seed)
    leaves = some_leaves(size)
    index = dice.randrange(size)
    path = merkle.inclusion_path(index, size, merkle.subtree_of(leaves))
    step = dice.randrange(len(path))
    flipped = bytearray(path[step])
    flipped[dice.randrange(32)] ^= 1 << dice.randrange(8)
    path[step] = bytes(flipped)
    with pytest.raises(merkle.ProofError):
        merkle.verify_inclusion(leaves[index], index, size, path, merkle.root_of(leaves))


@settings(max_examples=50, deadline=None)
@given(batches=st.lists(st.integers(0, 300), max_size=8))
def test_however_leaves_arrive_the_root_is_the_same(batches: list[int]) -> None:
    leaves = some_leaves(sum(batches))
    frontier, kept, at = merkle.Frontier(), list[merkle.Node](), 0
    for count in batches:
        frontier = merkle.Frontier.decode(frontier.size, frontier.encode())
        kept += frontier.append(leaves[at : at + count])
        at += count
        assert frontier.root() == merkle.root_of(leaves[:at]) == verify._root(b"".join(leaves[:at]))
    assert [(node.level, node.index) for node in kept if node.level == 8] == [(8, i) for i in range(at // 256)]
    for node in kept:
        covered = leaves[node.index << node.level : (node.index + 1) << node.level]
        assert node.hash == merkle.root_of(covered)


def test_a_tree_can_be_put_together_from_its_subtrees() -> None:
    leaves = some_leaves(700)
    frontier = merkle.Frontier()
    for node in merkle.Frontier().append(leaves):
        frontier.append_subtree(node.level, node.hash)
    with pytest.raises(ValueError, match="cannot begin"):
        merkle.Frontier(1, [leaves[0]]).append_subtree(8, leaves[0])
    frontier.append(leaves[512:])
    assert frontier.root() == merkle.root_of(leaves)


@pytest.mark.parametrize(("size", "data"), [(-1, b""), (0, bytes(32)), (3, bytes(32)), (4, b""), (1, bytes(31))])
def test_a_frontier_that_cannot_be_is_refused(size: int, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"complete subtrees|bit"):
        merkle.Frontier.decode(size, data)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_path_to_a_leaf_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="not in a tree"):
        merkle.inclusion_path(index, size, merkle.subtree_of([]))
    with pytest.raises(ValueError, match="no consistency"):
        merkle.consistency_path(size + 1, size, merkle.subtree_of([]))
