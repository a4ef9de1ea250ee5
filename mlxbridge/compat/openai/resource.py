"""What the parts of both clients have in common."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, TypeVar

from mlxbridge.compat.openai.missing import missing
from mlxbridge.compat.openai.raw_response import WithRawResponse

C = TypeVar("C")


class Resource(Generic[C]):
    """A part of a client, such as ``client.chat.completions``.

    Attributes:
        path: where it is.
    """

    path: ClassVar[str]

    def __init__(self, client: C) -> None:
        self._client = client

    @property
    def with_raw_response(self) -> WithRawResponse:
        """The same methods, which give a ``RawResponse``."""
        return WithRawResponse(self)

    def __getattr__(self, name: str) -> Any:
        raise missing(f"{self.path}.{name}")
