"""How drop-ins refuse what the host cannot do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NoReturn

from mlxbridge.errors import UsageError


class MissingAttribute(UsageError, AttributeError):
    """The original has it, and the drop-in does not; the message says what there is."""


def refused(field: str, why: str) -> UsageError:
    """The error for an argument; the message begins with its name, which ``details["field"]`` has too."""
    return UsageError(f"{field}: {why}", details={"field": field})


def refusing(field: str, why: str) -> Callable[..., NoReturn]:
    """A function of the original's that can only say why there is none here; ``details["field"]`` is ``field``."""

    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise refused(field, why)

    return refuse


def check_members(given: Iterable[Any], known: Collection[str], where: str = "") -> None:
    """Refuse members that there are none of.

    Args:
        given: a request's fields, or an object among them.
        known: the members there are.
        where: what goes before their names: "text.", say.

    Raises:
        UsageError: it names the first one, and the nearest right name.
    """
    for name in given:
        if name not in known:
            from difflib import get_close_matches  # rarely needed, and slow to import

            near = get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {where}{near[0]}?" if near else ""
            raise refused(f"{where}{name}", f"there is no such field{hint}")


def is_one_of(value: Any, allowed: Collection[Any]) -> bool:
    """Whether a value is the same as one of some: 0 is not False, nor 1.0 a 1."""
    return any(type(value) is type(one) and value == one for one in allowed)


def refuse_all(given: Mapping[str, Any], known: Mapping[str, tuple[Any, str]], function: str) -> None:
    """Refuse what a drop-in takes in no way but left out.

    Args:
        given: arguments, by name.
        known: the original's arguments, each with its default, which is as good as nothing, and why there is no other.
        function: that was called, for the message.

    Raises:
        UsageError: it names the first one, and why.
    """
    for name, value in given.items():
        if name not in known:
            raise refused(name, f"{function} has no such parameter")
        default, why = known[name]
        if value is not None and not is_one_of(value, (default,)):
            raise refused(name, why)
