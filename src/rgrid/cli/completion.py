"""`rgrid completion`: what a shell has to know so that Tab completes commands, options and ids. The shell asks this
program at each Tab, so what it offers is what this version understands."""

import argparse
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from rgrid.cli import credentials
from rgrid.cli.arguments import script_split
from rgrid.cli.connection import address
from rgrid.cli.output import Console, Failure, plain
from rgrid.client.answers import TERMINAL
from rgrid.client.grid import Client
from rgrid.client.problems import GridError
from rgrid.kernel.errors import RgridError

ASKING_MAX_S: Final = 1.0
IDS_MAX: Final = 50
FILES: Final = ":files"
FOLDERS: Final = ":folders"
SHELLS: Final[dict[str, str]] = {
    "bash": r"""_rgrid() {
    local line="${COMP_LINE:0:COMP_POINT}" word
    local -a asked
    read -ra asked <<< "$line"
    [[ $line == *[[:space:]] ]] && asked+=("")
    local current="${asked[${#asked[@]}-1]}"
    # Bash replaces only what stands behind the last of these signs.
    local kept="${current%"${current##*[:=]}"}"
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        case $word in
            :files) compopt -o default; return ;;
            :folders) compopt -o dirnames; return ;;
            *=) compopt -o nospace ;;
        esac
        COMPREPLY+=("${word#"$kept"}")
    done < <("${asked[0]}" completion words "${asked[@]:1}" 2>/dev/null)
}
complete -F _rgrid rgrid
""",
    "zsh": r"""#compdef rgrid
_rgrid() {
    local word says
    local -a shown
    while IFS=$'\t' read -r word says; do
        case $word in
            :files) _files; return ;;
            :folders) _files -/; return ;;
        esac
        shown+=("${word//:/\\:}:${says}")
    done < <("${words[1]}" completion words "${(@)words[2,CURRENT]}" 2>/dev/null)
    _describe rgrid shown
}
if [[ ${funcstack[1]} == _rgrid ]]; then _rgrid "$@"; else compdef _rgrid rgrid; fi
""",
    "fish": r"""function __rgrid_complete
    set -l asked (commandline -opc)
    set -l current (commandline -ct)
    test -z "$current"; and set current ""
    for line in ($asked[1] completion words $asked[2..-1] $current 2>/dev/null)
        switch $line
            case ':files*'
                __fish_complete_path $current
            case ':folders*'
                __fish_complete_directories $current
            case '*'
                echo $line
        end
    end
end
complete -c rgrid -f -a '(__rgrid_complete)'
""",
}
# How an argument is called says what belongs there.
_LISTS: Final = {
    "execution_id": ("/executions", "execution_id"),
    "execution_ids": ("/executions", "execution_id"),
    "batch": ("/batches", "batch_id"),
    "batch_id": ("/batches", "batch_id"),
    "key_id": ("/keys", "id"),
    "key_ids": ("/keys", "id"),
    "runtime": ("/runtimes", "name"),
    "workflow_name": ("/workflows/definitions", "name"),
    "names": ("/workflows/definitions", "name"),
    "run_id": ("/workflows/runs", "run_id"),
    "schedule_name": ("/schedules", "name"),
    "schedule_names": ("/schedules", "name"),
}
# What is looked for in more than one list.
_BOTH: Final = {"workflow_or_run": ("workflow_name", "run_id")}
_METAVARS: Final = {"FILE": FILES, "FILES": FILES, "SCRIPT": FILES, "DIR": FOLDERS}


class Offer(NamedTuple):
    """Something that may stand where the cursor is."""

    word: str
    says: str = ""


def add_completion(parser: argparse.ArgumentParser, _shared: argparse.ArgumentParser) -> None:
    parser.usage = "rgrid completion bash|zsh|fish"
    parser.add_argument("shell", choices=[*SHELLS, "words"], metavar="SHELL", help="bash, zsh or fish")
    parser.epilog = (
        "Examples:\n"
        '  eval "$(rgrid completion bash)"                                 # in ~/.bashrc\n'
        '  eval "$(rgrid completion zsh)"                                  # in ~/.zshrc, after compinit\n'
        "  rgrid completion fish > ~/.config/fish/completions/rgrid.fish"
    )
    parser.set_defaults(handler=completion)


def completion(args: argparse.Namespace, console: Console) -> int:
    if args.shell == "words":
        for offer in offers(args.passed or [""]):
            print(f"{offer.word}\t{plain(offer.says)}")
    elif console.json:
        console.document({"shell": args.shell, "script": SHELLS[args.shell]})
    else:
        print(SHELLS[args.shell], end="")
    return 0


def offers(words: Sequence[str]) -> list[Offer]:
    """What may stand at the place of the last word, given those before it."""
    *before, current = words
    return [offer for offer in _possible(before, current) if offer.word.startswith((current, ":"))]


def _possible(before: list[str], current: str) -> Iterator[Offer]:
    from rgrid.cli.main import ALIASES, COMMANDS, GLOBAL_OPTIONS, make_parser

    position = 0
    while position < len(before) and before[position].startswith("-"):
        position += 2 if GLOBAL_OPTIONS.get(before[position]) else 1
    if position >= len(before):
        if position > len(before):
            yield from _profiles() if before[-1] == "--profile" else ()
        elif current.startswith("-"):
            yield from map(Offer, GLOBAL_OPTIONS)
        else:
            yield from (Offer(name, command.says) for name, command in COMMANDS.items())
        return
    name = ALIASES.get(before[position], before[position])
    rest = before[position + 1 :]
    if name == "help":
        yield from (Offer(other, command.says) for other, command in COMMANDS.items())
    elif name in COMMANDS:
        if name == "run":
            _, passed = script_split([*rest, current])
            if len(passed) > 1 or (passed and "--" in rest):
                yield Offer(FILES)
                return
        yield from _of_command(make_parser(name), name, rest, current)


def _of_command(parser: argparse.ArgumentParser, name: str, rest: list[str], current: str) -> Iterator[Offer]:
    places: list[str] = []
    awaiting: argparse.Action | None = None
    for word in rest:
        option = parser._option_string_actions.get(word)
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if awaiting is not None:
            awaiting = None
        elif option is not None:
            awaiting = option if option.nargs != 0 else None
        elif groups and word in groups[0].choices:
            parser, places = groups[0].choices[word], []
        elif not word.startswith("-"):
            places.append(word)
    if awaiting is not None:
        yield from _values(awaiting, name)
    elif current.startswith("--") and "=" in current:
        option = parser._option_string_actions.get(current.partition("=")[0])
        start = f"{current.partition('=')[0]}="
        for offer in _values(option, name) if option else ():
            yield offer if offer.word.startswith(":") else Offer(start + offer.word, offer.says)
    elif current.startswith("-"):
        for action in parser._actions:
            if action.help != argparse.SUPPRESS:
                yield from (Offer(text, action.help or "") for text in action.option_strings if text.startswith("--"))
    else:
        yield from _place(parser, name, places)


def _place(parser: argparse.ArgumentParser, name: str, places: list[str]) -> Iterator[Offer]:
    """The argument without a name that comes after those that are there."""
    if name == "run":
        yield Offer(FILES)
        return
    if name == "profiles":
        yield from () if any(isinstance(each, argparse._SubParsersAction) for each in parser._actions) else _profiles()
    left = len(places)
    for action in parser._actions:
        if action.option_strings or action.help == argparse.SUPPRESS:
            continue
        if isinstance(action, argparse._SubParsersAction):
            yield from (Offer(choice.dest, choice.help or "") for choice in action._choices_actions)
        elif left == 0 or action.nargs in ("*", "+"):
            yield from (offer for offer in _values(action, name) if offer.word not in places)
            return
        left -= 1


def _values(action: argparse.Action, name: str) -> Iterator[Offer]:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.choices is not None:
        yield from (Offer(str(choice)) for choice in action.choices if choice != "words")
    elif metavar in _METAVARS:
        yield Offer(_METAVARS[metavar])
    elif action.dest == "profile":
        yield from _profiles()
    else:
        for dest in _BOTH.get(action.dest, (action.dest,)):
            if dest in _LISTS:
                yield from _known(dest, name)


def _profiles() -> Iterator[Offer]:
    try:
        yield from (Offer(name, profile.api_url) for name, profile in credentials.load().profiles.items())
    except Failure:
        return


def _known(dest: str, name: str) -> Iterator[Offer]:
    """What the service has; nothing when it does not answer in a moment."""
    path, field = _LISTS[dest]
    try:
        for row in _asked(path):
            is_over = row.get("status") in TERMINAL
            if field == "execution_id" and (is_over if name == "cancel" else not is_over and name == "retry"):
                continue
            says = " ".join(str(row[each]) for each in ("status", "name", "created_at") if row.get(each))
            yield Offer(str(row[field]), says)
    except (GridError, RgridError, Failure, TimeoutError):
        return


def _asked(path: str) -> list[Mapping[str, object]]:
    def too_long(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, ASKING_MAX_S)
    try:
        found = address(argparse.Namespace())
        with Client(found.url, found.key, waits_s=()) as client:
            rows: list[Mapping[str, object]] = client.document("GET", path, query={"limit": IDS_MAX})["data"]
            return rows
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
