"""The calls that wait for a model to be ready: in order, and bounded in number and memory, each guest's among them."""

from __future__ import annotations

from collections import Counter

from mlxbridge.errors import BridgeError, Overloaded
from mlxbridge.host.engine.interface import GUEST_SHARE
from mlxbridge.host.models.job import Job
from mlxbridge.host.params import estimate_bytes

MAX_WAITING = 1024
MAX_WAITING_BYTES = 64 * 1024 * 1024
RETRY_AFTER_S = 1.0


class Backlog:
    """Owns the jobs that no worker has seen yet.

    Args:
        name: the model's, for refusals.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sizes: dict[Job, int] = {}
        self._num_bytes = 0
        self._guest_calls: Counter[str] = Counter()
        self._guest_bytes: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            Overloaded: there are too many, or they take too much memory; a guest's own may be ``GUEST_SHARE`` times what is free.
        """
        size, guest = estimate_bytes(job.params), job.origin.guest
        free, free_bytes = MAX_WAITING - len(self), MAX_WAITING_BYTES - self._num_bytes
        is_full = not free or size > free_bytes
        if (
            is_full
            or self._guest_calls[guest] >= GUEST_SHARE * free
            or self._guest_bytes[guest] + size > GUEST_SHARE * free_bytes
        ):
            raise Overloaded(
                f"{len(self)} calls ({self._num_bytes / 2**20:.1f} MiB) wait for {self._name} to load, "
                f"{self._guest_calls[guest]} of them this guest's",
                retry_after=RETRY_AFTER_S,
            )
        self._sizes[job] = size
        self._num_bytes += size
        self._guest_calls[guest] += 1
        self._guest_bytes[guest] += size

    def remove(self, job: Job) -> bool:
        """Forget a job; whether it was here."""
        if (size := self._sizes.pop(job, None)) is None:
            return False
        self._num_bytes -= size
        self._guest_calls[job.origin.guest] -= 1
        self._guest_bytes[job.origin.guest] -= size
        if not self._guest_calls[job.origin.guest]:
            del self._guest_calls[job.origin.guest], self._guest_bytes[job.origin.guest]
        return True

    def take(self) -> list[Job]:
        """Hand out every job, in order of arrival."""
        jobs = list(self._sizes)
        self._sizes, self._num_bytes = {}, 0
        self._guest_calls.clear()
        self._guest_bytes.clear()
        return jobs

    def fail(self, error: BridgeError) -> None:
        """End every job with ``error``."""
        for job in self.take():
            job.fail(error)
