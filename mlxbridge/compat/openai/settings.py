"""What a client was made with, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mlxbridge.compat.openai.errors import translate, translated
from mlxbridge.compat.openai.missing import missing
from mlxbridge.compat.openai.parameters import NOT_GIVEN, Plan, chat_plan, is_left_out
from mlxbridge.compat.openai.raw_response import WithRawResponse
from mlxbridge.compat.openai.timeouts import Timeout, seconds_of
from mlxbridge.compat.refusal import refused
from mlxbridge.errors import BridgeError, UsageError

T = TypeVar("T")

_HARMLESS = ("organization", "project")


def meaningless(name: str) -> UsageError:
    """The error for a setting that mlxbridge has no like of."""
    return refused(name, "has no meaning here: there is no HTTP on the way to the host")


class Settings:
    """Of one client.

    Attributes:
        api_key: as it was given, or None.
        base_url: mlxbridge's URL, or None.
        timeout: seconds for each call, None for no limit.
        max_retries: how often to try again.
    """

    def __init__(
        self,
        api_key: str | None,
        base_url: str | None,
        timeout: float | Timeout | None,
        max_retries: int,
        others: Mapping[str, Any],
    ) -> None:
        """Check them.

        Raises:
            BadRequestError: one has no meaning here; ``param`` names it.
        """
        self.api_key, self.base_url = api_key, base_url
        self.timeout, self.max_retries = timeout, max_retries
        try:
            for name, value in others.items():
                if name not in _HARMLESS and value is not None:
                    raise meaningless(name)
            for name, text in (("api_key", api_key), ("base_url", base_url)):
                if text is not None and not isinstance(text, str):
                    raise refused(name, f"must be a text, not {type(text).__name__}")
            if base_url is not None and base_url.startswith(("http://", "https://")):
                raise refused(
                    "base_url",
                    "must be mlxbridge's URL, such as unix:///run/mlxbridge.sock or tcp://HOST:PORT; or leave it out",
                )
            if type(max_retries) is not int or max_retries < 0:
                raise refused("max_retries", f"must be a number from 0, not {max_retries!r}")
        except BridgeError as error:
            raise translate(error) from error

    @property
    def given(self) -> dict[str, Any]:
        """What makes the same client."""
        return {
            "api_key": self.api_key,
            "base_url": self.base_url,
            "timeout": self.timeout,
            "max_retries": self.max_retries,
        }

    @property
    def token(self) -> str | None:
        """What proves who this guest is; a key of OpenAI's own does not."""
        return None if self.api_key is None or self.api_key.startswith("sk-") else self.api_key

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """A call's parameters, with the client's timeout where they have none, and how often to try again."""
        extra = given.get("extra_body")
        if extra is None or is_left_out(extra):
            extra = {}
        return {
            **given,
            "timeout": self.timeout_of(given.get("timeout", NOT_GIVEN)),
            # What is no map is refused with the other parameters.
            "extra_body": {"retry": self.max_retries, **extra} if isinstance(extra, Mapping) else extra,
        }

    def timeout_of(self, given: Any) -> Any:
        """A call's timeout: its own, None among them, or the client's."""
        return seconds_of(self.timeout if is_left_out(given) else given)


class Configured:
    """What both clients know of their settings."""

    _settings: Settings

    def __getattr__(self, name: str) -> Any:
        raise missing(name)

    @property
    def with_raw_response(self) -> WithRawResponse:
        """The same client, whose methods give a ``RawResponse``."""
        return WithRawResponse(self)

    @property
    def api_key(self) -> str | None:
        """What was given."""
        return self._settings.api_key

    @property
    def base_url(self) -> str | None:
        """The URL that was given."""
        return self._settings.base_url

    @property
    def timeout(self) -> float | Timeout | None:
        """Seconds for each call."""
        return self._settings.timeout

    @property
    def max_retries(self) -> int:
        """How often to try again."""
        return self._settings.max_retries

    def _plan_whole(self, given: Mapping[str, Any]) -> Plan:
        """What ``parse`` was given."""
        plan = self._plan(chat_plan, given)
        with translated():
            if plan.is_stream:
                raise refused("stream", "parse gives whole answers; stream gives them as they come")
        return plan

    def _plan_events(self, given: Mapping[str, Any]) -> Plan:
        """What ``stream`` was given."""
        with translated():
            if "stream" in given:
                raise refused("stream", "the method gives events as they come: leave it out")
        return self._plan(chat_plan, {**given, "stream": True})

    def _plan(self, make: Callable[[Mapping[str, Any]], T], given: Mapping[str, Any]) -> T:
        with translated():
            return make(self._settings.complete(given))
