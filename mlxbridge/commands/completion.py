"""``mlxbridge --completion``: a script that has a shell complete commands, options and their values, made from the parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Option:
    """One of a command's.

    Attributes:
        names: such as ``-c`` and ``--count``.
        takes_value: the word that follows belongs to it.
        values: which, where there are so many and no others.
        help: what it is for.
    """

    names: tuple[str, ...]
    takes_value: bool
    values: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Command:
    """The command line, or one of its commands; what is not an option is a file's name, or one of ``commands``."""

    name: str
    help: str
    options: tuple[Option, ...]
    commands: tuple[Command, ...]


class Completion(argparse.Action):
    """Prints the script for the shell that is named, and ends."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """See above."""
        print(SHELLS[values](describe(parser)))
        parser.exit()


def describe(parser: argparse.ArgumentParser, name: str = "", text: str = "") -> Command:
    """What a parser takes.

    Args:
        parser: of the command.
        name: its name.
        text: what it is for.
    """
    options, commands = [], []
    for action in parser._actions:
        values = tuple(map(str, action.choices or ()))
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            commands = [describe(sub, name, helps.get(name, "")) for name, sub in action.choices.items()]
        elif action.option_strings and action.help != argparse.SUPPRESS:
            said = (action.help or "") % {**vars(action), "prog": parser.prog}
            options.append(Option(tuple(action.option_strings), action.nargs not in (0, "?"), values, said))
    return Command(name, text, tuple(options), tuple(commands))


def bash_script(whole: Command) -> str:
    """For ``eval "$(mlxbridge --completion bash)"``."""
    return "\n".join(
        [
            "_mlxbridge() {",
            "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command= words=",
            "    ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} != -* ]] && command=${COMP_WORDS[1]}",
            '    case "$command $before $word" in',
            *_cases(whole, 'words="{}"'),
            "    esac",
            '    COMPREPLY=($(compgen -W "$words" -- "$word"))',
            "}",
            "complete -o default -F _mlxbridge mlxbridge",
        ]
    )


def zsh_script(whole: Command) -> str:
    """For ``eval "$(mlxbridge --completion zsh)"``, behind ``compinit``."""
    return "\n".join(
        [
            "_mlxbridge() {",
            "    local before=$words[CURRENT-1] command=",
            "    ((CURRENT > 2)) && [[ $words[2] != -* ]] && command=$words[2]",
            '    case "$command $before $words[CURRENT]" in',
            *_cases(whole, "compadd -- {}; return"),
            "    esac",
            "    _files",
            "}",
            "compdef _mlxbridge mlxbridge",
        ]
    )


def fish_script(whole: Command) -> str:
    """For ``mlxbridge --completion fish | source``."""
    lines = [*_fish_words(whole, "__fish_use_subcommand")]
    for command in whole.commands:
        lines += _fish_words(command, f"__fish_seen_subcommand_from {command.name}")
    return "\n".join(lines)


SHELLS = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}


def _cases(whole: Command, offer: str) -> Iterator[str]:
    """Branches of a ``case`` over the command, the word before, and the one that is begun; files are left to the shell."""
    for command in (whole, *whole.commands):
        free = []
        for option in command.options:
            patterns = [f'"{command.name} {name} "*' for name in option.names]
            if option.values:
                yield f"        {'|'.join(patterns)}) {offer.format(' '.join(option.values))} ;;"
            elif option.takes_value:
                free += patterns
        if free:
            yield f"        {'|'.join(free)}) ;;"
        names = [name for option in command.options for name in option.names]
        yield f'        "{command.name} "*" -"*) {offer.format(" ".join(names))} ;;'
        if command.commands:
            inner = " ".join(sub.name for sub in command.commands)
            yield f'        "{command.name} "*) {offer.format(inner)} ;;'


def _fish_words(command: Command, condition: str) -> Iterator[str]:
    begin = f"complete -c mlxbridge -n {_fish_quote(condition)}"
    for sub in command.commands:
        yield f"{begin} -f -a {sub.name} -d {_fish_quote(sub.help)}"
    for option in command.options:
        names = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
        value = ["-r"] if option.takes_value else []
        if option.values:
            value = ["-x", f"-a {_fish_quote(' '.join(option.values))}"]
        words = [*names, *value, f"-d {_fish_quote(option.help)}"]
        yield f"{begin} {' '.join(words)}"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
