"""Completions for bash, zsh and fish, written from the parser, so that they never offer what it refuses.

Values are completed where somebody can know them: files, directories, the names of the credentials in the config, as far
as whoever types may read it. The texts of the options come from `--help`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable

from agent.cli.manual.commands import Argument, Command, Option

_NAMES = " ".join(
    (
        r"sed -n 's/^[[:space:]]*\[credentials\.\([A-Za-z0-9_-]*\)[].].*/\1/p;",
        r"""s/^[[:space:]]*\[credentials\."\([A-Za-z0-9._-]*\)".*/\1/p'""",
    )
)
"""Prints the names of the credentials in a config, some more than once. No other characters: shells expand what they offer."""


# -- bash -------------------------------------------------------------------------------------------------------------
def bash(top: Command) -> str:
    """For /usr/share/bash-completion/completions/keyturn; it needs nothing of the bash-completion package."""
    commands = list(top.walk())
    moves = [f"{_key(each)}) path={shlex.quote(each.path)} ;;" for each in commands if each.words]
    takers = [
        _place(each, flag) for each in commands for option in each.options if option.value for flag in option.flags
    ]
    return _BASH.format(
        names=_NAMES,
        takers="|".join(takers),
        commands=shlex.quote(_words_below(top)),
        moves=_indent(moves, 12),
        values=_indent(_bash_values(commands), 8),
        offers=_indent((f"{shlex.quote(each.path)}) {_bash_offer(each)} ;;" for each in commands), 8),
    )


def _key(command: Command) -> str:
    """What leads from a command to this one: its path and the word."""
    return shlex.quote(f"{' '.join(command.words[:-1])}:{command.words[-1]}")


def _place(command: Command, flag: str) -> str:
    return shlex.quote(f"{command.path}:{flag}")


def _bash_values(commands: Iterable[Command]) -> list[str]:
    """One line for each option that takes a value."""
    return [
        f"{'|'.join(_place(each, flag) for flag in option.flags)}) {_bash_value(option)}; return ;;"
        for each in commands
        for option in each.options
        if option.value
    ]


def _bash_value(option: Option) -> str:
    if option.choices:
        return f"_keyturn_offer {shlex.quote(' '.join(option.choices))}"
    acts = {"file": "_keyturn_paths -f", "directory": "_keyturn_paths -d", "credential": "_keyturn_names"}
    return acts.get(option.kind, ":")


def _bash_offer(command: Command) -> str:
    """Sets what the command offers: options behind a dash, otherwise its commands or operands."""
    flags = " ".join(flag for option in command.options for flag in option.flags)
    kind = next((argument.kind for argument in command.arguments), "")
    words = _words_below(command) or " ".join(next((argument.choices for argument in command.arguments), ()))
    return f"options={shlex.quote(flags)} words={shlex.quote(words)} kind={kind}"


def _words_below(command: Command) -> str:
    return " ".join(each.words[-1] for each in command.commands)


def _indent(lines: Iterable[str], width: int) -> str:
    return "\n".join(" " * width + line for line in lines)


_BASH = r"""# bash completion for keyturn(1); written by `keyturn completion bash`.
_keyturn_offer() {{
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}}
_keyturn_paths() {{
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$current")
}}
_keyturn_names() {{
    _keyturn_offer "$({names} -- "$config" 2>/dev/null)"
}}
_keyturn() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} config=${{KEYTURN_CONFIG:-/etc/keyturn/keyturn.toml}}
    local path= before= word= index options= words= kind=
    COMPREPLY=()
    for ((index = 1; index < COMP_CWORD; index++)); do
        word=${{COMP_WORDS[index]}}
        [[ $word == = ]] && continue                    # --option=VALUE comes as three words
        if [[ $before ]]; then                          # the value of an option
            [[ $before == *:--config ]] && config=$word
            before=
            continue
        fi
        case $path:$word in
            {takers}) before=$path:$word ;;
{moves}
        esac
    done
    [[ $current == = ]] && current=
    case $before in
{values}
    esac
    case $path in
{offers}
    esac
    if [[ $current == -* ]]; then
        _keyturn_offer "$options"
    elif [[ $kind == credential ]]; then
        _keyturn_names
    elif [[ $kind == command ]]; then
        _keyturn_offer {commands}
    else
        _keyturn_offer "$words"
    fi
}}
complete -F _keyturn keyturn
"""


# -- zsh --------------------------------------------------------------------------------------------------------------
def zsh(top: Command) -> str:
    """For /usr/share/zsh/vendor-completions/_keyturn."""
    functions = "\n".join(_zsh_function(each) for each in top.walk())
    head = "#compdef keyturn\n# Written by `keyturn completion zsh`."
    described = " ".join(shlex.quote(f"{each.words[-1]}:{each.summary}") for each in top.commands)
    return f"{head}\n{_ZSH_NAMES}\n{_ZSH_COMMANDS.format(described=described)}\n{functions}\n{_ZSH_END}"


_ZSH_NAMES = f"""\
_keyturn_names() {{
    local -a names
    local config=${{opt_args[--config]:-${{keyturn_config:-${{KEYTURN_CONFIG:-/etc/keyturn/keyturn.toml}}}}}}
    names=(${{(uf)"$({_NAMES} -- "${{(Q)config}}" 2>/dev/null)"}})
    compadd -a names
}}"""

_ZSH_COMMANDS = """\
_keyturn_commands() {{
    local -a commands
    commands=({described})
    _describe -t commands command commands
}}"""

_ZSH_END = """\
if [[ $funcstack[1] == _keyturn ]]; then
    _keyturn "$@"
else
    compdef _keyturn keyturn
fi
"""
"""A file of $fpath is the function's body when it is loaded; else it was read by `source`."""


def _zsh_function(command: Command) -> str:
    """One function; a command with commands below it hands on to theirs."""
    name = _zsh_name(command)
    specs = [_zsh_option(option) for option in command.options]
    if not command.commands:
        specs += [_zsh_argument(argument) for argument in command.arguments]
        return f"{name}() {{\n    _arguments -s \\\n{_zsh_list(specs)}\n}}"
    specs += ["'1: :->command'", "'*:: :->rest'"]
    described = " ".join(shlex.quote(f"{each.words[-1]}:{each.summary}") for each in command.commands)
    branches = _indent((f"{each.words[-1]}) {_zsh_name(each)} ;;" for each in command.commands), 12)
    return _ZSH_FORK.format(name=name, specs=_zsh_list(specs), described=described, branches=branches)


_ZSH_FORK = """\
{name}() {{
    local curcontext="$curcontext" state line
    typeset -A opt_args
    local -a commands
    commands=({described})
    _arguments -s -C -A '-*' \\
{specs} && return
    local keyturn_config=${{opt_args[--config]:-$keyturn_config}}
    case $state in
        command) _describe -t commands command commands ;;
        rest)
            case $words[1] in
{branches}
            esac ;;
    esac
}}"""


def _zsh_name(command: Command) -> str:
    return "_".join(["_keyturn", *command.words])


def _zsh_list(specs: list[str]) -> str:
    return " \\\n".join(f"        {spec}" for spec in specs)


def _zsh_option(option: Option) -> str:
    text = option.help.replace("[", "(").replace("]", ")").replace(":", ",")
    rest = f":{option.value}:{_zsh_action(option.kind, option.choices)}" if option.value else ""
    excluded = f"({' '.join(option.flags)})"
    return " ".join(shlex.quote(f"{excluded}{flag}[{text}]{rest}") for flag in option.flags)


def _zsh_argument(argument: Argument) -> str:
    return shlex.quote(
        f"{'*' if argument.many else '1'}:{argument.value}:{_zsh_action(argument.kind, argument.choices)}"
    )


def _zsh_action(kind: str, choices: tuple[str, ...]) -> str:
    if choices:
        return f"({' '.join(choices)})"
    acts = {"file": "_files", "directory": "_files -/", "credential": "_keyturn_names", "command": "_keyturn_commands"}
    return acts.get(kind, " ")


# -- fish -------------------------------------------------------------------------------------------------------------
def fish(top: Command) -> str:
    """For /usr/share/fish/vendor_completions.d/keyturn.fish."""
    lines = [line for command in top.walk() for line in _fish_lines(command, _words_below(top))]
    takers = [flag for each in top.walk() for option in each.options if option.value for flag in option.flags]
    forks = " ".join(each.path for each in top.commands if each.commands) or "''"
    return _FISH.format(names=_NAMES, forks=forks, takers=" ".join(sorted(set(takers))), lines="\n".join(lines))


def _fish_lines(command: Command, top_words: str) -> list[str]:
    start = f"complete -c keyturn -n '__keyturn_at {command.path}'".replace("at '", "at'")
    lines = [f"{start} {_fish_option(option)}" for option in command.options]
    lines += [f"{start} -a {each.words[-1]} -d {_fish_quote(each.summary)}" for each in command.commands]
    if any(argument.kind == "credential" for argument in command.arguments):
        lines.append(f"{start} -a '(__keyturn_names)'")
    if any(argument.kind == "command" for argument in command.arguments):
        lines.append(f"{start} -a {_fish_quote(top_words)}")
    lines += [f"{start} -a {_fish_quote(' '.join(one.choices))}" for one in command.arguments if one.choices]
    return lines


def _fish_option(option: Option) -> str:
    flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
    values = {
        "file": "-r -F",
        "directory": "-x -a '(__fish_complete_directories)'",
        "credential": "-x -a '(__keyturn_names)'",
    }
    value = f"-x -a {_fish_quote(' '.join(option.choices))}" if option.choices else values.get(option.kind, "-x")
    return " ".join(
        filter(None, [flags, value if option.value else "", f"-d {_fish_quote(option.help)}" if option.help else ""])
    )


def _fish_quote(text: str) -> str:
    """Quote for fish, which knows two escapes inside single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_FISH = r"""# fish completion for keyturn(1); written by `keyturn completion fish`.
function __keyturn_at --description 'Whether the words so far, without options, begin with these and go no deeper'
    set -l words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word {takers}
            set skip 1
        else if not string match -q -- '-*' $word
            set -a words $word
        end
    end
    switch "$words[1]"
        case {forks}
            test "$words[1..2]" = "$argv"
        case '*'
            test "$words[1]" = "$argv"
    end
end
function __keyturn_names
    set -l config /etc/keyturn/keyturn.toml
    set -q KEYTURN_CONFIG; and set config $KEYTURN_CONFIG
    set -l words (commandline -opc)
    for at in (seq (count $words))
        test "$words[$at]" = --config; and set config $words[(math $at + 1)]
        string match -q -- '--config=*' $words[$at]; and set config (string sub -s 10 -- $words[$at])
    end
    {names} -- $config 2>/dev/null | sort -u
end
complete -c keyturn -f
{lines}
"""

SHELLS: dict[str, Callable[[Command], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
