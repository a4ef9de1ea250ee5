"""The fields of a body, of which each has to be taken: what is left is refused by name."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

from mlxbridge.guest.gateway.problem import Problem

shown = reprlib.repr
"""A value for a message, short however large it is."""


def refused(field: str, why: str) -> Problem:
    """The error for a field; the message begins with its name."""
    return Problem(400, f"{field}: {why}", field=field)


class Fields:
    """What was given, without what is null, which is the same as left out.

    Args:
        given: by name.
        place: what stands before each name in errors: ``"options."``.
    """

    def __init__(self, given: Mapping[str, Any], place: str = "") -> None:
        self._left = {name: value for name, value in given.items() if value is not None}
        self._place = place

    def take(self, name: str) -> Any:
        """A field's value, as it is; None if it was left out."""
        return self._left.pop(name, None)

    def take_text(self, name: str) -> str:
        """A text; empty if it was left out.

        Raises:
            Problem: it is something else.
        """
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise self._wrong(name, "a text", value)
        return value or ""

    def take_flag(self, name: str) -> bool | None:
        """True or false; None if it was left out.

        Raises:
            Problem: it is something else.
        """
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def take_number(self, name: str) -> int | None:
        """A whole number, also one that is written with a point; None if it was left out.

        Raises:
            Problem: it is something else.
        """
        value = self.take(name)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if value is not None and type(value) is not int:
            raise self._wrong(name, "a whole number", value)
        return value

    def take_list(self, name: str) -> list[Any]:
        """A list; empty if it was left out.

        Raises:
            Problem: it is something else.
        """
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            raise self._wrong(name, "a list", value)
        return value or []

    def take_map(self, name: str) -> dict[str, Any]:
        """A map; empty if it was left out.

        Raises:
            Problem: it is something else.
        """
        value = self.take(name)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(name, "an object", value)
        return value or {}

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Refuse what there is no way to honour; where it is empty, it says nothing.

        Raises:
            Problem: it names the first one that was given, and why.
        """
        for name, why in reasons.items():
            if self.take(name) not in (None, "", [], {}):
                raise refused(self._place + name, why)

    def allow(self, only: Mapping[str, tuple[Any, str]]) -> None:
        """Refuse all values but one, which is what happens anyway.

        Raises:
            Problem: it names the first one that was given, and why.
        """
        for name, (value, why) in only.items():
            given = self.take(name)
            if given is not None and (
                isinstance(given, bool) is not isinstance(value, bool) or given != value
            ):
                raise refused(self._place + name, why)

    def finish(self) -> None:
        """Refuse what was not taken.

        Raises:
            Problem: it names the first one.
        """
        for name in self._left:
            raise refused(self._place + name, "there is no such field")

    def _wrong(self, name: str, kind: str, value: Any) -> Problem:
        return refused(self._place + name, f"must be {kind}, not {shown(value)}")
