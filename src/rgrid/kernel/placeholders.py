"""Expressions as text: where `${…}` stands in a value, what an expression refers to, and the value once they are known.

An expression is in the Common Expression Language. What it comes to is found out elsewhere; here is only its spelling.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

EXPRESSION_MAX: Final = 2000
NESTED_MAX: Final = 100
_TOKEN: Final = re.compile(
    r"""
    (?P<blank>\s+|//[^\n]*)
  | (?P<raw>(?:[rR][bB]?|[bB][rR])(?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|"[^"\n]*"))
  | (?P<string>[bB]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"|'(?:\\.|[^\\'\n])*'|"(?:\\.|[^\\"\n])*"))
  | (?P<number>\d[\w.]*(?:(?<=[eE])[-+]\d+)?|\.\d+\w*)
  | (?P<name>[A-Za-z_]\w*)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_OPEN: Final = frozenset("([{")
_CLOSE: Final = frozenset(")]}")
_WORDS: Final = frozenset({"true", "false", "null", "in"})
_MACROS: Final = frozenset({"all", "exists", "exists_one", "map", "filter"})
_TYPES: Final = frozenset({"int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"})
_NAMESPACES: Final = frozenset({"math", "sets", "strings", "base64", "lists", "optional"})


class BadPlaceholder(ValueError):
    """A `${` that doesn't hold an expression; the message is a sentence, `path` where in a value it stands."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class Hole(msgspec.Struct, frozen=True):
    """A `${…}` in a text."""

    expression: str


def pieces(text: str) -> list[str | Hole]:
    """A text as what stands between its placeholders, and these; `$${` stands for `${`. Raises BadPlaceholder."""
    found: list[str | Hole] = []
    plain, at = "", 0
    while (dollar := text.find("$", at)) >= 0:
        plain += text[at:dollar]
        if text.startswith("$${", dollar):
            plain, at = plain + "${", dollar + 3
        elif text.startswith("${", dollar):
            end = _end(text, dollar + 2)
            found += [plain] if plain else []
            found.append(Hole(_checked(text[dollar + 2 : end].strip())))
            plain, at = "", end + 1
        else:
            plain, at = plain + "$", dollar + 1
    plain += text[at:]
    return [*found, plain] if plain else found


def holes(value: Any) -> Iterator[tuple[str, str]]:
    """Every expression within a value, with the path of the text that it stands in. Raises BadPlaceholder."""
    for path, text in _texts(value, "", 0):
        if "${" in text:
            try:
                found = pieces(text)
            except BadPlaceholder as bad:
                raise BadPlaceholder(str(bad), path) from None
            yield from ((path, piece.expression) for piece in found if isinstance(piece, Hole))


def filled(value: Any, result: Callable[[str], Any]) -> Any:
    """The value with what its expressions came to: alone in a text a result keeps its type, within text it becomes
    text."""
    if isinstance(value, str) and "${" in value:
        found = pieces(value)
        if len(found) == 1 and isinstance(found[0], Hole):
            return result(found[0].expression)
        return "".join(text_of(result(one.expression)) if isinstance(one, Hole) else one for one in found)
    if isinstance(value, Mapping):
        return {name: filled(one, result) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [filled(one, result) for one in value]
    return value


def text_of(value: Any) -> str:
    """A result within a text: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def paths_in(expression: str) -> set[tuple[str, ...]]:
    """The variables that an expression uses, each with those members of members that it names: `steps.a.output["x"]` is
    (steps, a, output, x). Names that a macro binds and functions don't count."""
    tokens = list(_tokens(expression))
    found: set[tuple[str, ...]] = set()
    bound: list[frozenset[str]] = [frozenset()]
    for at, (kind, text) in enumerate(tokens):
        if text in _OPEN and kind == "sign":
            name = _bound_here(tokens, at)
            bound.append(bound[-1] | {name} if name else bound[-1])
        elif text in _CLOSE and kind == "sign" and len(bound) > 1:
            bound.pop()
        elif kind == "name" and text not in bound[-1] and _is_variable(tokens, at):
            found.add((text, *_members(tokens, at + 1)))
    return found


def _checked(expression: str) -> str:
    if not expression:
        raise BadPlaceholder("A placeholder holds no expression; $${ stands for the text ${.")
    if len(expression) > EXPRESSION_MAX:
        raise BadPlaceholder(f"An expression has more than {EXPRESSION_MAX} characters.")
    return expression


def _end(text: str, start: int) -> int:
    """Where the brace is that closes a placeholder: braces in texts and maps within it don't."""
    depth = 0
    for match in _TOKEN.finditer(text, start, start + 2 * EXPRESSION_MAX):
        if match.lastgroup == "sign":
            if match[0] == "}" and depth == 0:
                return match.start()
            depth += (match[0] == "{") - (match[0] == "}")
    raise BadPlaceholder("A placeholder that begins with ${ is never closed; $${ stands for the text ${.")


def _texts(value: Any, path: str, depth: int) -> Iterator[tuple[str, str]]:
    if depth > NESTED_MAX:
        raise BadPlaceholder(f"Values are nested deeper than {NESTED_MAX}.", path)
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _texts(one, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from _texts(one, f"{path}[{index}]", depth + 1)


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(expression):
        if match.lastgroup != "blank":
            yield match.lastgroup or "", match[0]


def _text_at(tokens: list[tuple[str, str]], at: int) -> str:
    return tokens[at][1] if 0 <= at < len(tokens) else ""


def _bound_here(tokens: list[tuple[str, str]], at: int) -> str | None:
    """The name that a macro binds between the brackets that open here."""
    macro = _text_at(tokens, at) == "(" and _text_at(tokens, at - 1) in _MACROS and _text_at(tokens, at - 2) == "."
    if macro and _text_at(tokens, at + 2) == "," and tokens[at + 1][0] == "name":
        return tokens[at + 1][1]
    return None


def _is_variable(tokens: list[tuple[str, str]], at: int) -> bool:
    name = tokens[at][1]
    if name in _WORDS or _text_at(tokens, at + 1) == "(":
        return False
    if _text_at(tokens, at - 1) == "." and at > 1:
        before = tokens[at - 2]
        # After anything that has a value, a dot selects a member of it.
        if before[0] != "sign" or before[1] in _CLOSE:
            return False
    if name in _NAMESPACES and _text_at(tokens, at + 1) == "." and _text_at(tokens, at + 3) == "(":
        return False
    return name not in _TYPES or _text_at(tokens, at + 1) in (".", "[")


def _members(tokens: list[tuple[str, str]], at: int) -> Iterator[str]:
    """What is selected by name from here on."""
    while True:
        if _text_at(tokens, at) == "." and at + 1 < len(tokens) and tokens[at + 1][0] == "name":
            if _text_at(tokens, at + 2) == "(":
                return
            yield tokens[at + 1][1]
            at += 2
        elif _text_at(tokens, at) == "[" and _text_at(tokens, at + 2) == "]":
            kind, text = tokens[at + 1]
            if kind != "string" or text[0] not in "'\"" or "\\" in text or text[:3] in ("'''", '"""'):
                return
            yield text[1:-1]
            at += 3
        else:
            return
