"""Caches of prompts that may come again: parts cut out of plain caches, and plain caches built from parts.

Keys and values over all tokens are cut into blocks of ``BLOCK_TOKENS``, which any prompt that begins alike can use.
Sliding windows and recurrent states cannot be cut: for them the whole state is kept at places where a later prompt
is likely to go on: at a prompt's end, at an answer's end, and where two prompts were seen to part (Pan et al.,
"Marconi: Prefix Caching for the Era of Hybrid LLMs", 2024).

A block is 64 tokens: what a prompt cannot reuse of its last block is read in one short pass, and on a real model a
block is some megabytes, so that copying it is bound by memory and not by the number of its copies. Less than one
block is never reused: a short pass costs the same with and without it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxbridge.host.engine.caches.cache_plan import CachePlan
from mlxbridge.host.engine.caches.caches import can_be_batched, can_be_padded, is_growing, kv_bytes, leaves
from mlxbridge.host.engine.caches.row_caches import RowCaches
from mlxbridge.host.engine.loader import LoadedModel
from mlxbridge.host.engine.prefixes.cache_parts import CacheParts, Content, num_bytes
from mlxbridge.host.engine.prefixes.fetch import Fetch
from mlxbridge.host.engine.prefixes.fingerprint import fingerprint
from mlxbridge.host.engine.prefixes.part_folder import PartFolder
from mlxbridge.host.engine.prefixes.part_forms import PartForms
from mlxbridge.host.engine.prefixes.prefix_disk import MAX_ARRIVING_BYTES, NO_DISK, PrefixDisk
from mlxbridge.host.engine.prefixes.prefix_tree import TOKEN_BYTES, Node, Part, PrefixTree, pack
from mlxbridge.host.engine.rows import Job

log = logging.getLogger(__name__)

BLOCK_TOKENS = 64
_NO_DISK = "prefixes are not kept on disk: %s"
# What leaves the batch is copied within a step that running answers wait for: a few milliseconds on a laptop.
MAX_LEAVING_BYTES = 256 << 20


@dataclass(slots=True)
class Prefix:
    """What is cached of a prompt.

    Attributes:
        num_tokens: tokens that need not be read.
        node: where they end; the scope's root if there are none.
        num_seen: tokens that another prompt began with too, even if none can go on from there.
    """

    num_tokens: int
    node: Node[Content]
    num_seen: int


@dataclass(slots=True, eq=False)
class Trail:
    """How far a prompt has been stored, while it is read.

    Attributes:
        tokens: all that may be stored, packed.
        tip: what the next part is stored below; None if nothing more is to be stored.
        stops: lengths at which caches that cannot be cut are to be kept; reading must stop there.
        parts: cut, but not stored yet.
    """

    tokens: bytes
    tip: Node[Content] | None
    stops: frozenset[int] = frozenset()
    parts: list[Part[Content]] = field(default_factory=list)

    @property
    def num_cut(self) -> int:
        """Tokens that are stored or cut."""
        assert self.tip is not None
        return self.tip.depth + sum(len(part.run) for part in self.parts) // TOKEN_BYTES

    def run(self, start: int, stop: int) -> bytes:
        """These tokens, packed."""
        return self.tokens[start * TOKEN_BYTES : stop * TOKEN_BYTES]

    def skip(self, stop: int) -> None:
        """Go on behind those blocks up to ``stop`` that somebody else has stored."""
        while self.tip is not None and not self.parts:
            end = min(self.tip.depth + BLOCK_TOKENS, stop)
            child = self.tip.child(self.run(self.tip.depth, end)) if end > self.tip.depth else None
            if child is None:
                return
            self.tip = child


class PrefixCache:
    """Parts of prompts; their arrays are evaluated and their own, so that none keeps a larger buffer alive.

    What is cut in one step is stored by ``commit`` at the beginning of the next one, when it has been computed.

    Attributes:
        can_cut: whether any length of a prompt can be reused, in blocks.
        pending: prompts of which parts wait for ``commit``.
    """

    def __init__(self, plan: CachePlan, budget_bytes: int) -> None:
        """Start empty; nothing is stored for a model whose kinds of caches are not known."""
        caches = plan.make()
        self.can_cut = can_be_padded(caches)
        self.pending: list[Trail] = []
        self._plan = plan
        self._parts = CacheParts(plan)
        self._tree: PrefixTree[Content] = PrefixTree(
            budget_bytes if can_be_batched(caches) else 0, self._rescue
        )
        self._disk: PrefixDisk | None = None
        self._num_leaving_bytes = 0
        self._num_hits = 0
        self._num_reused = 0

    def open_disk(self, loaded: LoadedModel, root: Path, limit_bytes: int) -> None:
        """Keep what is stored on disk as well, and find what is there; if that cannot be, a line in the log says why.

        Args:
            loaded: whose prompts these are; nothing is found that was made with another.
            root: the folder, which any number of models and processes may share.
            limit_bytes: what all of that may take.
        """
        if not self.is_on:
            log.warning(_NO_DISK, "the model has none in memory either")
            return
        forms = PartForms(self._plan, self._parts)
        kinds = (BLOCK_TOKENS,) if self.can_cut else (BLOCK_TOKENS, 0)
        least = sum(forms.of(num_tokens, BLOCK_TOKENS).num_bytes for num_tokens in kinds)
        if least > limit_bytes:
            log.warning(_NO_DISK, f"{limit_bytes} bytes may be, but {BLOCK_TOKENS} tokens take {least}")
            return
        try:
            folder = PartFolder(root, fingerprint(loaded, self._plan, forms), limit_bytes)
        except OSError as error:
            log.warning(_NO_DISK, error)
        else:
            self._disk = PrefixDisk(folder, forms, can_cut=self.can_cut)

    @property
    def is_on(self) -> bool:
        """Whether anything is ever stored."""
        return self._tree.budget_bytes > 0

    @property
    def has_disk(self) -> bool:
        """Whether ``fetch`` may find something."""
        return self._disk is not None

    @property
    def has_work(self) -> bool:
        """Whether ``commit`` has to come, for what is on its way to the disk or from there."""
        return self._disk is not None and self._disk.has_work

    @property
    def version(self) -> int:
        """Changes whenever ``find`` may find something else."""
        return self._tree.version

    def stats(self) -> dict[str, int]:
        """Bytes now and at most; prompts that began with cached tokens, and how many tokens these were; the same of the
        disk, see ``PrefixDisk.stats``.
        """
        return {
            "prefix_cache_bytes": self._tree.num_bytes,
            "prefix_cache_budget": self._tree.budget_bytes,
            "prefix_hits_total": self._num_hits,
            "prefix_tokens_reused_total": self._num_reused,
            **(NO_DISK if self._disk is None else self._disk.stats()),
        }

    def find(self, scope: str, tokens: bytes) -> Prefix:
        """The longest cached beginning of packed tokens, which may be all of them; it may go with the next ``commit``."""
        nodes = self._tree.match(scope, tokens, len(tokens) // TOKEN_BYTES)
        usable = [node for node in nodes if node.depth >= BLOCK_TOKENS and (self.can_cut or node.is_end)]
        node = max(usable, key=lambda node: node.depth, default=self._tree.root(scope))
        return Prefix(node.depth, node, max((each.depth for each in nodes), default=0))

    def fetch(self, prefix: Prefix, tokens: bytes, *, rank: int) -> Fetch | None:
        """Fetch what the disk has of packed tokens beyond their prefix in memory; None if it has nothing more.

        Those of a lower rank go first.
        """
        least = prefix.num_tokens + BLOCK_TOKENS
        if self._disk is None or least * TOKEN_BYTES > len(tokens):
            return None
        root = self._tree.root(prefix.node.scope)
        return self._disk.fetch(root, tokens, least=least, most_bytes=self._tree.budget_bytes, rank=rank)

    def give_up(self, fetch: Fetch) -> None:
        """Who asked for it does not wait any more."""
        if self._disk is not None:
            self._disk.give_up(fetch)

    def is_coming(self, prefix: Prefix, tokens: bytes, *, rank: int) -> bool:
        """Whether more of packed tokens than their prefix in memory is being fetched, for this rank or one before it."""
        if self._disk is None:
            return False
        least, scope = prefix.num_tokens + BLOCK_TOKENS, prefix.node.scope
        return any(
            fetch.rank <= rank and fetch.is_help(scope, tokens, least, can_cut=self.can_cut)
            for fetch in self._disk.fetches
        )

    def build(self, prefixes: Sequence[Prefix]) -> list[Any]:
        """Plain caches with a row for each prefix; all are of one length."""
        length = prefixes[0].num_tokens
        if length:
            self._num_hits += len(prefixes)
            self._num_reused += len(prefixes) * length
        nodes = [prefix.node for prefix in prefixes]
        for node in nodes:
            self._tree.touch(node)
            if self._disk is not None:
                self._disk.use(node)
        runs = {node: [each.content or [] for each in node.path() if not each.is_end] for node in nodes}
        ends = [node.content for node in nodes if node.is_end and node.content is not None]
        return self._parts.build([runs[node] for node in nodes], ends, length)

    def trail(self, prefix: Prefix, tokens: bytes) -> Trail:
        """Begin to store a prompt of which a prefix is cached."""
        if not self.is_on:
            return Trail(tokens, None)
        node, length = prefix.node, len(tokens) // TOKEN_BYTES
        if node.is_end and node.parent is not None:
            node = node.parent
        stops = (stop for stop in (prefix.num_seen, length) if stop - prefix.num_tokens >= BLOCK_TOKENS)
        return Trail(tokens, node, frozenset() if self.can_cut else frozenset(stops))

    def is_help(self, trail: Trail, prefix: Prefix, tokens: bytes) -> bool:
        """Whether a trail is about to store more of these packed tokens than their cached prefix."""
        if trail.tip is None or trail.tip.scope != prefix.node.scope:
            return False
        least = prefix.num_tokens + BLOCK_TOKENS
        stop = least if self.can_cut else min((stop for stop in trail.stops if stop >= least), default=0)
        end = stop * TOKEN_BYTES
        is_coming = trail.tip.depth < stop and end <= min(len(tokens), len(trail.tokens))
        return is_coming and tokens[:end] == trail.tokens[:end]

    def cut(self, caches: Sequence[Any], num_read: int, trails: Sequence[Trail]) -> None:
        """Cut out what has been read of prompts and is not stored.

        Args:
            caches: plain ones with a row for each trail; they may hold fillers after a prompt's end.
            num_read: tokens in them.
            trails: the prompts'.
        """
        rows: list[tuple[int, Trail, int, int]] = []
        for index, trail in enumerate(trails):
            stop = min(num_read, len(trail.tokens) // TOKEN_BYTES)
            is_stop = num_read in trail.stops
            trail.skip(stop if is_stop else stop - stop % BLOCK_TOKENS)
            if trail.tip is not None:
                start = trail.num_cut
                rows.append((index, trail, start, stop if is_stop else stop - (stop - start) % BLOCK_TOKENS))
        rows = [row for row in rows if row[3] > row[2] or num_read in row[1].stops]
        if not rows:
            return
        first, last = min(row[2] for row in rows), max(row[3] for row in rows)
        slabs = self._parts.slabs(caches, first, last)
        for index, trail, start, stop in rows:
            if not trail.parts:
                self.pending.append(trail)
            for begin in range(start, stop, BLOCK_TOKENS):
                end = min(begin + BLOCK_TOKENS, stop)
                block = self._parts.run(slabs, index, begin - first, end - first)
                trail.parts.append(Part(trail.run(begin, end), block, num_bytes(block)))
            if num_read in trail.stops:
                state = self._parts.end(caches, index)
                trail.parts.append(Part(b"", state, num_bytes(state)))
        mx.async_eval([part.content for _, trail, _, _ in rows for part in trail.parts])  # type: ignore[no-untyped-call]

    def leave(self, job: Job, caches: RowCaches, place: int) -> None:
        """Cut out what a row that leaves the batch has beyond its prompt; as far as a step's time allows."""
        if not self.is_on:
            return
        # Of a row that was given up amid drafted tokens more may be in its caches than is known.
        length = min(caches.length(place), len(job.prompt) + len(job.answer))
        tokens = pack([*job.prompt, *job.answer][:length])
        nodes = self._tree.match(job.scope, tokens, length)
        tip = max(
            (node for node in nodes if not node.is_end),
            key=lambda node: node.depth,
            default=self._tree.root(job.scope),
        )
        kept = max((node.depth for node in nodes if node.is_end or self.can_cut), default=0)
        if length - kept < BLOCK_TOKENS:
            return
        row = caches.row(place)
        per_token, room = kv_bytes(row), MAX_LEAVING_BYTES - self._num_leaving_bytes
        fixed = sum(item.nbytes for item in leaves(row) if not is_growing(item))
        if self.can_cut:
            length = min(length, tip.depth + room // max(1, per_token))
        elif fixed + per_token * (length - tip.depth) > room:
            return
        self._num_leaving_bytes += fixed + per_token * (length - tip.depth)
        stops = frozenset() if self.can_cut else frozenset({length})
        self.cut(row, length, [Trail(tokens, tip, stops)])

    def commit(self) -> None:
        """Store what has been cut, once it is computed, and what has come from the disk."""
        self._store_pending()
        if self._disk is not None:
            self._disk.settle(self._tree, max_bytes=MAX_ARRIVING_BYTES)

    def wait(self, seconds: float) -> None:
        """Until the disk has done something, but no longer."""
        if self._disk is not None:
            self._disk.wait(seconds)

    def clear(self) -> None:
        """Give all memory back."""
        self.commit()
        self._tree.clear()

    def close(self, seconds: float) -> None:
        """Let what is stored outlive the process, as far as that can be written in time."""
        self.commit()
        if self._disk is not None:
            self._disk.close(self._tree, seconds)

    def _store_pending(self) -> None:
        pending, self.pending = self.pending, []
        self._num_leaving_bytes = 0
        if not pending:
            return
        try:
            mx.eval([part.content for trail in pending for part in trail.parts])
        except Exception:
            # Most likely for want of memory, and then the cache has to give its own back.
            self._tree.clear()
            for trail in pending:
                trail.tip, trail.parts = None, []
            return
        for trail in pending:
            assert trail.tip is not None
            trail.tip, trail.parts = self._tree.extend(trail.tip, trail.parts), []
            if self._disk is not None and trail.tip is not None:
                self._disk.offer(trail.tip)

    def _rescue(self, node: Node[Content]) -> None:
        if self._disk is not None:
            self._disk.rescue(node)
