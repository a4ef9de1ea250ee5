"""``with_raw_response``: what is beside an answer, as far as a host tells it without HTTP."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from mlxbridge.compat.openai.objects import Object
from mlxbridge.compat.refusal import MissingAttribute, refused


class Headers(dict[str, str]):
    """By names whose case does not count."""

    def __missing__(self, name: str) -> str:
        if name == name.lower():
            raise KeyError(name)
        return self[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        """That of a name, or the default."""
        return super().get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())


class RawResponse:
    """An answer, and what is beside it.

    Attributes:
        headers: ``x-request-id``, what the host calls the request; nothing for streams, of which it tells at the end, and lists.
        status_code: 200; errors are raised.
    """

    status_code = 200

    def __init__(self, parsed: Any) -> None:
        self._parsed = parsed
        self.headers = Headers()
        if isinstance(parsed, Object) and parsed._request_id is not None:
            self.headers["x-request-id"] = parsed._request_id

    @property
    def request_id(self) -> str | None:
        """``x-request-id``."""
        found: str | None = self.headers.get("x-request-id")
        return found

    @property
    def text(self) -> str:
        """The answer as JSON."""
        if not isinstance(self._parsed, Object):
            raise MissingAttribute("a stream has no text of its own: parse() gives its chunks")
        return self._parsed.to_json(indent=None)

    @property
    def content(self) -> bytes:
        """The same as UTF-8."""
        return self.text.encode()

    def parse(self, *, to: Any = None) -> Any:
        """What the method gives by itself."""
        if to is not None:
            raise refused(
                "to", "what the host answers has one type; give response_format to chat.completions.parse"
            )
        return self._parsed

    def __getattr__(self, name: str) -> Any:
        raise MissingAttribute(
            f"there is no {name!r}, for there is no HTTP on the way to the host; there is parse(), headers, request_id, "
            "status_code, text and content"
        )


class WithRawResponse:
    """The methods of a client, or of a part of one, each of which gives a ``RawResponse``."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._wrapped, name)
        if not callable(found):
            return WithRawResponse(found)

        def call(*arguments: Any, **parameters: Any) -> Any:
            answer = found(*arguments, **parameters)
            return _await(answer) if isinstance(answer, Awaitable) else RawResponse(answer)

        return call


async def _await(answer: Awaitable[Any]) -> RawResponse:
    return RawResponse(await answer)
