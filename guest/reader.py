"""What iterators over calls have in common: when nobody reads any more, the calls end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from mlxbridge.errors import Cancelled
from mlxbridge.guest.blocking_link import BlockingLink
from mlxbridge.guest.call import Call

T = TypeVar("T")


class Reader(Iterator[T]):
    """Reads what calls bring. For one thread at a time.

    Leaving the ``with`` block, ``close()``, or losing the last reference cancels the calls at the host.
    """

    _last_words: ClassVar[str]
    """What ended the calls, for their error."""

    def __init__(self, link: BlockingLink, deadline: float | None) -> None:
        self._link = link
        self._deadline = deadline
        self._finished = False

    @property
    @abstractmethod
    def _calls(self) -> Iterable[Call]:
        """Those that end with it."""

    def __iter__(self) -> Self:
        return self

    def close(self) -> None:
        """Cancel what still runs. Further iteration ends at once."""
        if not self._finished:
            self._finished = True
            for call in self._calls:
                self._link.give_up(call, Cancelled(self._last_words))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._finished:
            for call in self._calls:
                if not call.ended:
                    self._link.drop(call)
