"""Why a model could not be loaded, and when a call tries again; bookkeeping, with time handed in."""

from __future__ import annotations

from mlxbridge.errors import BridgeError

PAUSE_FIRST_S = 1.0
PAUSE_MOST_S = 30.0


class Failures:
    """Owns the latest error, and the pause after it, which doubles with each failure in a row.

    Args:
        name: the model's, for the error.

    Attributes:
        error: why the model has failed; None if it has not.
    """

    def __init__(self, name: str) -> None:
        self.error: BridgeError | None = None
        self._name = name
        self._pause_s = 0.0
        self._retry_at: float | None = None  # None: not before somebody asks

    def note(self, error: BridgeError, now: float, *, is_final: bool = False) -> None:
        """An attempt has ended badly.

        Args:
            error: why.
            now: seconds.
            is_final: no call tries again.
        """
        self.error = error
        self._pause_s = min(PAUSE_MOST_S, 2 * self._pause_s or PAUSE_FIRST_S)
        self._retry_at = None if is_final else now + self._pause_s

    def refusal(self, now: float) -> BridgeError | None:
        """What a call gets at once; None: it tries again."""
        error = self.error
        if error is None or self._retry_at is None:
            return error
        left_s = self._retry_at - now
        if left_s <= 0:
            return None
        return type(error)(
            f"{error.message.rstrip('.')}. A call after {left_s:.1f} s tries again; `mlxbridge load {self._name}` at once",
            retryable=error.retryable,
            retry_after=left_s,
            details=error.details,
        )

    def begin(self) -> None:
        """It is tried again. How long to wait after the next failure stays."""
        self.error = None

    def forget(self) -> None:
        """It has all its chances: it is ready, or somebody asks for it, or for something else."""
        self.error, self._pause_s = None, 0.0
