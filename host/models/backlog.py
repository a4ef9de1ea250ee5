"""The calls that wait for a model to be ready: in order, and bounded in number and memory, each guest's among them."""

from __future__ import annotations

from mlxbridge.errors import BridgeError, Overloaded
from mlxbridge.host.models.job import Job
from mlxbridge.host.params import estimate_bytes
from mlxbridge.host.waiting import WaitingRoom

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
        self._room = WaitingRoom()

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, job: Job) -> bool:
        return job in self._sizes

    def add(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            Overloaded: there are too many, or they take too much memory, in all or of this guest's.
        """
        size, guest = estimate_bytes(job.params), job.origin.guest
        if not self._room.has_room(guest, size, max_bytes=MAX_WAITING_BYTES, max_calls=MAX_WAITING):
            raise Overloaded(
                f"{len(self)} calls ({self._room.num_bytes / 2**20:.1f} MiB) wait for {self._name} to load, "
                f"{self._room.calls_of(guest)} of them this guest's",
                retry_after=RETRY_AFTER_S,
            )
        self._sizes[job] = size
        self._room.enter(guest, size)

    def put_back(self, job: Job) -> None:
        """Let a job wait that was let in once, for the rest of it."""
        size = self._sizes[job] = estimate_bytes(job.params)
        self._room.enter(job.origin.guest, size)

    def remove(self, job: Job) -> bool:
        """Forget a job; whether it was here."""
        if (size := self._sizes.pop(job, None)) is None:
            return False
        self._room.leave(job.origin.guest, size)
        return True

    def take(self) -> list[Job]:
        """Hand out every job, in order of arrival."""
        jobs = list(self._sizes)
        for job in jobs:
            self.remove(job)
        return jobs

    def fail(self, error: BridgeError) -> None:
        """End every job with ``error``."""
        for job in self.take():
            job.fail(error)
