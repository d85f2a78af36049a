"""Merkle tree hashing (RFC 9162 §2.1): roots, inclusion and consistency proofs. Pure: bytes in, bytes out."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
# Roots of complete subtrees of 256, 65,536 … leaves are kept, so that a proof reads hundreds of hashes, never all
TILE_HEIGHT = 8

Subtree = Callable[[int, int], bytes]
"""The root over the leaves `start` up to, not including, `end`."""


class ProofError(ValueError):
    """A proof does not show what it claims; the text says why."""


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Node:
    """The root of the complete subtree over the leaves `index << level` up to `(index + 1) << level`."""

    level: int
    index: int
    hash: bytes


@dataclass(slots=True)
class Frontier:
    """A tree's compact range: the roots of its complete subtrees, largest first. All that appending needs."""

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    @classmethod
    def decode(cls, size: int, data: bytes) -> "Frontier":
        """From what `encode` gave. Raises ValueError when it cannot belong to a tree of `size` leaves."""
        if size < 0 or len(data) != size.bit_count() * HASH_SIZE:
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} complete subtrees, not {len(data)} bytes")
        return cls(size, [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)])

    def encode(self) -> bytes:
        return b"".join(self.hashes)

    def append(self, leaves: Iterable[bytes]) -> list[Node]:
        """Add leaf hashes at the right end. Returns the subtrees whose roots are worth keeping, see TILE_HEIGHT."""
        kept: list[Node] = []
        for leaf in leaves:
            kept += (node for node in self.append_subtree(0, leaf) if node.level % TILE_HEIGHT == 0)
        return kept

    def append_subtree(self, level: int, root: bytes) -> list[Node]:
        """Add a complete subtree of `1 << level` leaves. Returns the larger ones that are complete with it.

        Raises ValueError where it cannot begin here.
        """
        if self.size & ((1 << level) - 1):
            raise ValueError(f"a subtree of {1 << level} leaves cannot begin at {self.size}")
        index = self.size >> level
        self.size += 1 << level
        completed = []
        while index & 1:
            root = node_hash(self.hashes.pop(), root)
            index, level = index >> 1, level + 1
            completed.append(Node(level, index, root))
        self.hashes.append(root)
        return completed

    def root(self) -> bytes:
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    frontier = Frontier()
    frontier.append(leaves)
    return frontier.root()


def subtree_of(leaves: Sequence[bytes]) -> Subtree:
    """For trees that fit into memory."""
    return lambda start, end: root_of(leaves[start:end])


def inclusion_path(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The audit path of leaf `index` in the tree over the first `size` leaves (RFC 9162 §2.1.3.1)."""
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    return list(_path(index, 0, size, subtree))


def _path(index: int, start: int, end: int, subtree: Subtree) -> Iterator[bytes]:
    if end - start == 1:
        return
    middle = start + _split(end - start)
    if index < middle:
        yield from _path(index, start, middle, subtree)
        yield subtree(middle, end)
    else:
        yield from _path(index, middle, end, subtree)
        yield subtree(start, middle)


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Raise ProofError unless `leaf` stands at `index` in the tree of `size` with `root` (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    _require_hashes([leaf, root, *path])
    at, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise ProofError("the path is too long")
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the path is too short")
    if found != root:
        raise ProofError("the path leads to another root")


def consistency_path(first: int, second: int, subtree: Subtree) -> list[bytes]:
    """What shows that the tree of `first` leaves is a prefix of that of `second` (RFC 9162 §2.1.4.1)."""
    if not 0 < first <= second:
        raise ValueError(f"no consistency proof from {first} to {second}")
    return list(_consistency(first, 0, second, subtree, known=True))


def _consistency(first: int, start: int, end: int, subtree: Subtree, *, known: bool) -> Iterator[bytes]:
    if first == end:
        if not known:
            yield subtree(start, end)
        return
    middle = start + _split(end - start)
    if first <= middle:
        yield from _consistency(first, start, middle, subtree, known=known)
        yield subtree(middle, end)
    else:
        yield from _consistency(first, middle, end, subtree, known=False)
        yield subtree(start, middle)


def verify_consistency(first: int, second: int, path: Sequence[bytes], first_root: bytes, second_root: bytes) -> None:
    """Raise ProofError unless the second tree only grew from the first (RFC 9162 §2.1.4.2)."""
    if not 0 < first <= second:
        raise ProofError(f"a tree of {first} leaves cannot have grown to {second}")
    _require_hashes([first_root, second_root, *path])
    if first == second:
        if path:
            raise ProofError("the path is too long")
        if first_root != second_root:
            raise ProofError("two roots for one size")
        return
    if not path:
        raise ProofError("the path is too short")
    # A complete first tree is itself the first step
    steps = [first_root, *path] if first & (first - 1) == 0 else list(path)
    at, last = first - 1, second - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    old = new = steps[0]
    for step in steps[1:]:
        if last == 0:
            raise ProofError("the path is too long")
        if at & 1 or at == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            new = node_hash(new, step)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the path is too short")
    if old != first_root:
        raise ProofError("the path leads to another first root")
    if new != second_root:
        raise ProofError("the path leads to another second root")


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << (count - 1).bit_length() - 1


def _require_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(found) != HASH_SIZE for found in hashes):
        raise ProofError(f"every hash has {HASH_SIZE} bytes")
