"""The command line's parser: what it cannot read is told as all errors are, with what may have been meant."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import takewhile
from typing import Any, NoReturn

from mlxbridge.errors import UsageError


class CommandParser(argparse.ArgumentParser):
    """Raises what argparse would print; knows no half of an option's name.

    Args:
        reads_stdin: of what a "-" among the arguments stands for, told where there are none.
        options: argparse's.
    """

    def __init__(self, *, reads_stdin: str = "", **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._reads_stdin = reads_stdin

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            UsageError
        """
        if self._reads_stdin and message.startswith("the following arguments are required"):
            message += f"; - is {self._reads_stdin}"
        raise UsageError(f"{message} ({self.prog} --help explains)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but that a command refuses by itself what it does not know: its own options are the nearest ones."""
        commands = self._commands()
        for word in takewhile(lambda word: word not in commands, args if commands else ()):
            name = word.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                is_commands = any(name in command._option_string_actions for command in commands.values())
                hint = "" if is_commands else _hint(name, self._option_string_actions)
                self.error(
                    f"unrecognized arguments: {word}{hint or '; options of a command stand behind it'}"
                )
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(
                f"unrecognized arguments: {' '.join(unknown)}"
                + _hint(unknown[0].partition("=")[0], self._option_string_actions)
            )
        return found, unknown

    def _commands(self) -> dict[str, argparse.ArgumentParser]:
        """By name, if this has any."""
        kinds = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return {name: command for kind in kinds for name, command in kind.choices.items()}

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError:
            if hint := _hint(str(value), map(str, action.choices or ())):
                about = None if isinstance(action, argparse._SubParsersAction) else action
                raise argparse.ArgumentError(about, f"there is no {value!r}{hint}") from None
            raise


def _hint(given: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # rarely needed, and slow to import

    near = get_close_matches(given, [*known], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
