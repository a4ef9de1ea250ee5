"""Cached parts of prompts that are on disk as well: which are there, which are on their way there, and which back.

Every part that is cached is written soon, whether or not memory is short: so that nothing is lost however the process
ends. A part comes back when a prompt begins with it and memory does not have it; the prompt waits for that, since it
takes a fraction of what reading the prompt does.

All of this belongs to the engine's thread; what takes time, ``DiskThread`` does.
"""

from __future__ import annotations

import logging
from time import monotonic

from mlxbridge.host.engine.prefixes.cache_parts import Content, num_bytes
from mlxbridge.host.engine.prefixes.disk_thread import DiskThread, Listing, Read, Use, Write
from mlxbridge.host.engine.prefixes.fetch import Coming, Fetch
from mlxbridge.host.engine.prefixes.part_bytes import content_of, host_bytes
from mlxbridge.host.engine.prefixes.part_folder import PartFolder
from mlxbridge.host.engine.prefixes.part_forms import PartForms, form_of
from mlxbridge.host.engine.prefixes.part_names import PartIndex, PartName, name_of
from mlxbridge.host.engine.prefixes.prefix_tree import TOKEN_BYTES, Node, Part, PrefixTree

log = logging.getLogger(__name__)

# Handed over and not written yet: so much stays in memory, though the cache may have dropped it.
MAX_UNWRITTEN_BYTES = 256 << 20
# What has been read is copied once more, into fresh memory and within a step that running answers wait for: so much takes
# 10 ms of one core of an EPYC.
MAX_ARRIVING_BYTES = 16 << 20
# Who waits for a disk that does not answer goes on without it.
PATIENCE_S = 15.0
# So that the disk always has something to do, and is soon free for who comes with a better rank.
_MAX_BEGUN = 2
# When a part was used is noted no more often than this.
_USE_EVERY_S = 60.0
_MAX_USES = 4096
# ``PrefixDisk.stats`` of a model that has none.
NO_DISK = {
    "prefix_disk_bytes": 0,
    "prefix_disk_budget": 0,
    "prefix_disk_hits_total": 0,
    "prefix_disk_dropped_total": 0,
}


class PrefixDisk:
    """The disk's side of a ``PrefixCache``. If the disk fails, it is off: nothing is found, stored or waited for any more.

    Attributes:
        fetches: what is on its way into memory.
    """

    def __init__(self, folder: PartFolder, forms: PartForms, *, can_cut: bool) -> None:
        """Take a folder over.

        Args:
            folder: of this model's parts.
            forms: what its parts are like.
            can_cut: whether a prompt can go on from any part; else it needs an end.
        """
        self.fetches: list[Fetch] = []
        self._folder = folder
        self._forms = forms
        self._can_cut = can_cut
        self._index = PartIndex(folder.key)
        self._index.replace(folder.take_names() or ())
        self._thread = DiskThread(folder)
        self._is_on = True
        # By digest: parts to be handed over, and those that have been, with their bytes.
        self._backlog: dict[bytes, Node[Content]] = {}
        self._unwritten: dict[bytes, int] = {}
        self._num_unwritten_bytes = 0
        self._used_at: dict[bytes, float] = {}
        self._heard_at = 0.0
        self._num_hits = 0
        self._num_dropped = 0

    @property
    def has_work(self) -> bool:
        """Whether something is on its way."""
        return self._is_on and bool(self.fetches or self._unwritten or self._backlog)

    def stats(self) -> dict[str, int]:
        """Bytes of all models' parts, now and at most; prompts that began with what came from there; damaged files."""
        return {
            "prefix_disk_bytes": self._thread.num_bytes,
            "prefix_disk_budget": self._folder.limit_bytes if self._is_on else 0,
            "prefix_disk_hits_total": self._num_hits,
            "prefix_disk_dropped_total": self._num_dropped,
        }

    def settle(self, tree: PrefixTree[Content], *, max_bytes: int) -> None:
        """Store in memory what has come, note what has been written, and hand over what is to be.

        Args:
            tree: memory.
            max_bytes: that may come, or a little more; the rest comes with the next step.
        """
        while self._is_on and max_bytes > 0 and (result := self._thread.take()) is not None:
            self._heard_at = monotonic()
            if isinstance(result, Read):
                max_bytes -= result.num_bytes
                self._arrive(result, tree)
                self._thread.give_back(result)
            elif isinstance(result, Write):
                self._num_unwritten_bytes -= self._unwritten.pop(result.name.digest)
                if result.is_stored:
                    self._index.add(result.name)
            elif isinstance(result, Listing):
                self._index.replace(result.names)
            else:
                self._turn_off(result.reason)
        self._hand_over()
        if (self._unwritten or self.fetches) and monotonic() - self._heard_at > PATIENCE_S:
            self._turn_off(f"it has not answered for {PATIENCE_S:.0f} s")

    def wait(self, seconds: float) -> None:
        """Until ``settle`` has something to do, but no longer."""
        if self._unwritten or self.fetches:
            self._thread.wait(seconds)

    def close(self, tree: PrefixTree[Content], seconds: float) -> None:
        """Write what is to be written, and end; what takes longer is lost."""
        end = monotonic() + seconds
        for fetch in list(self.fetches):
            self.give_up(fetch)
        while self.has_work and (left := end - monotonic()) > 0:
            self.wait(left)
            self.settle(tree, max_bytes=MAX_ARRIVING_BYTES)
        self._thread.close(max(0.0, end - monotonic()))

    # -- from memory to disk -----------------------------------------------------------------------------------

    def offer(self, node: Node[Content]) -> None:
        """Store a part, those above it, and the ends there."""
        if not self._is_on:
            return
        for each in node.path():
            for part in (each, each.child(b"")):
                if part is not None and not self._is_kept(digest := self._digest(part)):
                    self._backlog[digest] = part

    def rescue(self, node: Node[Content]) -> None:
        """Store a part that memory is about to lose, unless too much waits already."""
        if not self._is_on:
            return
        digest = self._digest(node)
        self._backlog.pop(digest, None)
        if not self._is_kept(digest) and self._num_unwritten_bytes < MAX_UNWRITTEN_BYTES:
            self._write(node)

    def use(self, node: Node[Content]) -> None:
        """A prompt goes on from a part in memory: it is not to be among the first that go from the disk."""
        if not self._is_on or node.parent is None:
            return
        self.offer(node)
        name, now = self._name(node), monotonic()
        if name.digest in self._index and now - self._used_at.get(name.digest, 0.0) >= _USE_EVERY_S:
            if len(self._used_at) >= _MAX_USES:
                self._used_at.clear()
            self._used_at[name.digest] = now
            self._thread.write(Use(name))

    def _is_kept(self, digest: bytes) -> bool:
        return digest in self._index or digest in self._unwritten

    def _hand_over(self) -> None:
        while self._is_on and self._backlog and self._num_unwritten_bytes < MAX_UNWRITTEN_BYTES:
            digest = next(iter(self._backlog))
            node = self._backlog.pop(digest)
            if node.is_stored and not self._is_kept(digest):
                self._write(node)

    def _write(self, node: Node[Content]) -> None:
        assert node.content is not None
        name = self._name(node)
        form = self._forms.of(name.num_tokens, node.depth)
        if form_of(node.content) != form.arrays or node.num_bytes > self._folder.limit_bytes:
            return  # it could not be told from a damaged one, or would not be kept
        try:
            payload = host_bytes(node.content)
        except Exception:
            return  # most likely for want of memory; then this part is not that important
        self._expect_answer()
        self._unwritten[name.digest] = node.num_bytes
        self._num_unwritten_bytes += node.num_bytes
        self._thread.write(Write(name, form.digest, payload))

    # -- from disk to memory -----------------------------------------------------------------------------------

    def fetch(
        self, root: Node[Content], tokens: bytes, *, least: int, most_bytes: int, rank: int
    ) -> Fetch | None:
        """Read what a prompt can use; None if there is not enough of it, or nothing that memory lacks.

        Args:
            root: of the scope, in memory.
            tokens: the prompt's, packed.
            least: tokens that have to be in memory then.
            most_bytes: that all of the prompt's parts may take there.
            rank: of the prompt; those of a lower one go first.
        """
        if not self._is_on:
            return None
        fetch, end, size = Fetch(rank, root), 0, 0
        for name in self._index.path(root.scope, tokens, can_cut=self._can_cut):
            stop = end + name.num_tokens * TOKEN_BYTES
            run, form = tokens[end:stop], self._forms.of(name.num_tokens, stop // TOKEN_BYTES)
            size += form.num_bytes
            if size > most_bytes:
                break
            if not fetch.coming and (child := fetch.tip.child(run)) is not None:
                fetch.tip = child if run else fetch.tip
            else:
                read = Read(name, form.digest, form.num_bytes, lambda: not fetch.is_over)
                fetch.coming.append(Coming(read, form, run))
            end = stop
        is_usable = self._can_cut or size <= most_bytes
        if not fetch.coming or not is_usable or end < least * TOKEN_BYTES:
            return None
        fetch.tokens = tokens[:end]
        self._expect_answer()
        self.fetches.append(fetch)
        self._begin_fetches()
        return fetch

    def give_up(self, fetch: Fetch) -> None:
        """Nobody waits for what is still to come."""
        if not fetch.is_over:
            fetch.is_over = True
            self.fetches.remove(fetch)
            self._begin_fetches()

    def _begin_fetches(self) -> None:
        waiting = [fetch for fetch in self.fetches if not fetch.has_begun]
        if self._is_on and waiting and len(self.fetches) - len(waiting) < _MAX_BEGUN:
            fetch = min(waiting, key=lambda fetch: fetch.rank)
            fetch.has_begun = True
            self._thread.read([coming.read for coming in fetch.coming])

    def _arrive(self, read: Read, tree: PrefixTree[Content]) -> None:
        if read.payload is None:
            self._index.remove(read.name)
        if read.fault:
            self._num_dropped += 1
            log.warning("dropped a cached prefix, %s: %s", self._folder.path(read.name), read.fault)
        fetch = next((each for each in self.fetches if each.coming[0].read is read), None)
        if fetch is None:
            return
        coming = fetch.coming.popleft()
        if read.payload is None:
            for (
                below
            ) in fetch.coming:  # it may have gone too, and nobody will look: writing it again finds out
                self._index.remove(below.read.name)
        tip = None if read.payload is None else self._store(coming, read.payload, fetch.tip, tree)
        if tip is not None:
            fetch.tip = tip
            if self._can_cut or not fetch.coming:
                self._num_hits += not fetch.has_helped
                fetch.has_helped = True
        if tip is None or not fetch.coming:
            self.give_up(fetch)

    def _store(
        self, coming: Coming, payload: memoryview, tip: Node[Content], tree: PrefixTree[Content]
    ) -> Node[Content] | None:
        try:
            content = content_of(coming.form, payload)
        except Exception:
            # Most likely for want of memory, and then the cache has to give its own back.
            tree.clear()
            return None
        return tree.extend(tip, [Part(coming.run, content, num_bytes(content))])

    # ------------------------------------------------------------------------------------------------------------

    def _name(self, node: Node[Content]) -> PartName:
        return name_of(self._folder.key, node)

    def _digest(self, node: Node[Content]) -> bytes:
        return node.digest or self._name(node).digest  # each step asks for all above what it has read

    def _expect_answer(self) -> None:
        if not self._unwritten and not self.fetches:
            self._heard_at = monotonic()

    def _turn_off(self, reason: str) -> None:
        log.warning("prefixes are not kept on disk any more: %s", reason)
        self._is_on = False
        for fetch in list(self.fetches):
            self.give_up(fetch)
        self._backlog.clear()
        self._unwritten.clear()
        self._thread.abandon()
