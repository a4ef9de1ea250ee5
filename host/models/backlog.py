"""The calls that wait for a model to be ready: in order, and bounded in number and memory."""

from __future__ import annotations

from mlxbridge.errors import BridgeError, Overloaded
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

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            Overloaded: there are too many, or they take too much memory.
        """
        size = estimate_bytes(job.params)
        if len(self) >= MAX_WAITING or self._num_bytes + size > MAX_WAITING_BYTES:
            raise Overloaded(
                f"{len(self)} calls ({self._num_bytes / 2**20:.1f} MiB) wait for {self._name} to load",
                retry_after=RETRY_AFTER_S,
            )
        self._sizes[job] = size
        self._num_bytes += size

    def remove(self, job: Job) -> bool:
        """Forget a job; whether it was here."""
        size = self._sizes.pop(job, None)
        self._num_bytes -= size or 0
        return size is not None

    def take(self) -> list[Job]:
        """Hand out every job, in order of arrival."""
        jobs = list(self._sizes)
        self._sizes, self._num_bytes = {}, 0
        return jobs

    def fail(self, error: BridgeError) -> None:
        """End every job with ``error``."""
        for job in self.take():
            job.fail(error)
