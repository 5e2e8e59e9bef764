"""The house rules that import-linter can't say, each a function from a tree to the places that break it.

A tree is a folder that holds `src/rgrid`, `projections` and `tests`; `test_architecture.py` runs every rule on this one
and on copies with a violation planted."""

import ast
import functools
import hashlib
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 60
PARSED_MAX: Final = 1_000
VAGUE_NAMES: Final = frozenset(
    {"base", "common", "core", "helper", "helpers", "manager", "managers", "misc", "models", "schemas", "service"}
    | {"services", "types", "util", "utils"}
)
CLOCK: Final = "src/rgrid/kernel/clock.py"
IDS: Final = "src/rgrid/kernel/ids.py"
# The forked process that turns into the script and gives itself the script's environment.
BECOMES_THE_SCRIPT: Final = "src/rgrid/pool/warm_child.py"
MIGRATIONS: Final = "src/rgrid/postgres/migrations"
RELEASED: Final = "tests/postgres/released_migrations.sha256"
GOLDEN: Final = "tests/eventstore/golden"
_ENVIRONMENT: Final = frozenset({"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"})
_MOMENTS: Final = frozenset({("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")})
_RANDOM_IDS: Final = frozenset({"uuid1", "uuid4", "uuid7"})
_REASON: Final = re.compile(r"#\s*(?:noqa:\s*BLE001\W+)?\w+(\W+\w+){3,}")
_CREATED: Final = re.compile(r"create\s+(?:unlogged\s+)?table\s+(?:if not exists\s+)?(?:rm\.)?(\w+)")
_NAMED: Final = re.compile(r"\b(?:from|join|into|update|table|only)\s+(rm\.\w+|\w+)", re.IGNORECASE)
_TOPIC: Final = re.compile(r"[a-z_]+(\.[a-z_]+)+\.v\d+")
_IMPORTED_AS: Final = {"common-expression-language": "cel", "pyyaml": "yaml"}
_TICKET: Final = re.compile(r"(\bissues?|\bticket|\bGH-|\s#)\s?#?\d+\b")


def product(tree: Path) -> list[Path]:
    """The modules that are shipped."""
    return sorted([*(tree / "src/rgrid").rglob("*.py"), *(tree / "projections").rglob("*.py")])


def everything(tree: Path) -> list[Path]:
    return sorted([*product(tree), *(tree / "tests").rglob("*.py"), *(tree / "examples").rglob("*.py")])


def name(tree: Path, path: Path) -> str:
    return path.relative_to(tree).as_posix()


@functools.lru_cache(maxsize=PARSED_MAX)
def parsed(text: str) -> ast.Module:
    """The same text, here or in a copy, is parsed once for all rules."""
    return ast.parse(text)


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(parsed(path.read_text()))


def attribute(node: ast.AST) -> tuple[str, str] | None:
    """`(owner, attribute)` of `owner.attribute`, where the owner is a plain name or itself an attribute's last name."""
    if not isinstance(node, ast.Attribute):
        return None
    owner = node.value
    if isinstance(owner, ast.Name):
        return owner.id, node.attr
    return (owner.attr, node.attr) if isinstance(owner, ast.Attribute) else None


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """`(module, name)` for each name that an import statement brings in; `name` is empty for `import module`."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from ((node.module or "", alias.name) for alias in node.names)


def environment_outside_settings(tree: Path) -> list[str]:
    """Only `settings.py` reads the environment."""
    found = []
    for path in product(tree):
        if name(tree, path) in ("src/rgrid/settings.py", BECOMES_THE_SCRIPT):
            continue
        for node in nodes(path):
            seen = attribute(node)
            if (seen and seen[0] == "os" and seen[1] in _ENVIRONMENT) or any(
                module == "os" and what in _ENVIRONMENT for module, what in imported(node)
            ):
                found.append(f"{name(tree, path)}:{getattr(node, 'lineno', 0)} reads the environment")
    return found


def settings_nobody_reads(tree: Path) -> list[str]:
    """Every setting has an effect: some module other than `settings.py` reads it."""
    settings = tree / "src/rgrid/settings.py"
    others = (node for path in product(tree) if path != settings for node in nodes(path))
    read = {node.attr for node in others if isinstance(node, ast.Attribute)}
    classes = (node for node in nodes(settings) if isinstance(node, ast.ClassDef) and node.name == "Settings")
    fields = (node.target for each in classes for node in each.body if isinstance(node, ast.AnnAssign))
    names = (field.id for field in fields if isinstance(field, ast.Name) and field.id != "origins")
    return [f"nobody reads the setting {setting}" for setting in names if setting not in read]


def own_clock(tree: Path) -> list[str]:
    """Only the kernel's clock asks what time it is, and only its ids are random."""
    found = []
    for path in product(tree):
        here = name(tree, path)
        for node in nodes(path):
            seen = attribute(node)
            line = getattr(node, "lineno", 0)
            if here not in (CLOCK, IDS) and (seen in _MOMENTS or seen in {("time", "time"), ("time", "time_ns")}):
                found.append(f"{here}:{line} asks the time past kernel/clock.py")
            if here != IDS and (
                (seen and seen[0] == "uuid" and seen[1] in _RANDOM_IDS)
                or any(module == "random" or what in _RANDOM_IDS for module, what in imported(node))
            ):
                found.append(f"{here}:{line} draws an id or a number past kernel/ids.py")
    return found


def caught_exceptions(tree: Path) -> list[str]:
    """`except Exception` stands where something is supervised, with the reason beside it, or it raises again."""
    found = []
    for path in product(tree):
        lines = path.read_text().splitlines()
        for node in nodes(path):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else "BaseException"
            again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if re.search(r"\b(Base)?Exception\b", caught) and not again and not _REASON.search(lines[node.lineno - 1]):
                found.append(f"{name(tree, path)}:{node.lineno} catches {caught} without saying why")
    return found


def long_files(tree: Path) -> list[str]:
    """No file has more than 400 lines."""
    lengths = ((path, len(path.read_text().splitlines())) for path in everything(tree))
    return [f"{name(tree, path)} has {length} lines" for path, length in lengths if length > LINES_MAX]


def long_functions(tree: Path) -> list[str]:
    """No function has more than 60 lines."""
    found = []
    for path in everything(tree):
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    found.append(f"{name(tree, path)}:{node.lineno} {node.name} has {length} lines")
    return found


def vague_names(tree: Path) -> list[str]:
    """A module is called after what it is about, not after a role."""
    return [name(tree, path) for path in product(tree) if {path.stem, path.parent.name} & VAGUE_NAMES]


def silent_modules(tree: Path) -> list[str]:
    """Every module says what it is for, and a package's `__init__.py` says only that."""
    found = []
    for path in product(tree):
        here, module = name(tree, path), parsed(path.read_text())
        if not ast.get_docstring(module):
            found.append(f"{here} has no docstring")
        if path.name == "__init__.py" and len(module.body) > 1:
            found.append(f"{here} holds more than its docstring")
        if not (path.parent / "__init__.py").exists():
            found.append(f"{path.parent.name} is a folder of modules and no package")
    return found


def tables_outside_their_pair(tree: Path) -> list[str]:
    """A read model's table is named in SQL only by the pair of files that owns it."""
    owner = {}
    for path in (tree / "projections").glob("*.sql"):
        for table in _CREATED.findall(path.read_text()):
            owner[table] = path.stem
    found = []
    for path in [*product(tree), *tree.glob("src/rgrid/**/*.sql"), *(tree / "projections").glob("*.sql")]:
        for text in strings(path):
            for table in _NAMED.findall(text):
                bare = table.removeprefix("rm.")
                if bare in owner and not (path.stem == owner[bare] and path.parent.name == "projections"):
                    found.append(f"{name(tree, path)} names {bare}, which belongs to projections/{owner[bare]}")
    return found


def strings(path: Path) -> list[str]:
    """The SQL a file may hold: an `.sql` file without its comments, a module's strings without its docstrings."""
    if path.suffix == ".sql":
        return [re.sub(r"--[^\n]*", "", path.read_text())]
    module = parsed(path.read_text())
    told = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
    ]


def unlisted_read_models(tree: Path) -> list[str]:
    """Each read model is a pair, and `projections/all.py` lists it."""
    folder = tree / "projections"
    listed = (folder / "all.py").read_text()
    declaring = {path.stem for path in folder.glob("*.py") if re.search(r"\bProjection\(\s*name=", path.read_text())}
    described = {path.stem for path in folder.glob("*.sql")}
    return [
        *(f"projections/{stem} is half a pair" for stem in sorted(declaring ^ described)),
        *(f"projections/{stem} is not listed" for stem in sorted(declaring) if f"{stem}.PROJECTION" not in listed),
    ]


def topics(tree: Path) -> dict[str, str]:
    """Every topic that some slice's `events.py` registers or lifts to a newer one, with the file that does."""
    found: dict[str, str] = {}
    for path in (tree / "src/rgrid").glob("*/events.py"):
        for node in nodes(path):
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.value, ast.Dict):
                continue
            if isinstance(node.target, ast.Name) and node.target.id in ("TOPICS", "UPCASTERS"):
                keys = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
                found |= {str(key): name(tree, path) for key in keys}
    return found


def topics_without_golden(tree: Path) -> list[str]:
    """Every topic has its golden JSON, and no golden JSON stands for a topic that is gone."""
    golden = {path.stem for path in (tree / GOLDEN).glob("*.json")}
    known = topics(tree)
    return [
        *(f"{topic} ({where}) has no golden JSON" for topic, where in known.items() if topic not in golden),
        *(f"{GOLDEN}/{topic}.json has no topic" for topic in sorted(golden - known.keys())),
        *(f"{topic} is not <noun>.<past>.v<N>" for topic in known if not _TOPIC.fullmatch(topic)),
    ]


def migrations_out_of_order(tree: Path) -> list[str]:
    """Migrations are numbered 0001, 0002, … without a gap."""
    names = sorted(path.name for path in (tree / MIGRATIONS).glob("*.sql"))
    return [
        f"{file} should begin with {number:04}_"
        for number, file in enumerate(names, start=1)
        if not re.fullmatch(rf"{number:04}_[a-z0-9_]+\.sql", file)
    ]


def edited_migrations(tree: Path) -> list[str]:
    """A released migration is never edited: a database somewhere has run it as it was."""
    found = []
    lines = (tree / RELEASED).read_text().splitlines()
    for digest, file in (line.split() for line in lines if not line.startswith("#")):
        path = tree / MIGRATIONS / file
        if not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            found.append(f"{MIGRATIONS}/{file} was released and is not what it was")
    return found


def undeclared_imports(tree: Path) -> list[str]:
    """What is imported is declared, and not just there because something else needs it."""
    project = tomllib.loads((tree / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    shipped = _distributions(project["project"]["dependencies"], *extras)
    tested = shipped | _distributions(project["dependency-groups"]["dev"])
    peers = _distributions(project["dependency-groups"].get("bench", []))
    found = []
    for folder, known in (("src", shipped), ("projections", shipped), ("tests", tested)):
        files = sorted((tree / folder).rglob("*.py"))
        # Modules of ours, also those that find each other by lying side by side.
        ours = {"rgrid", "projections", "tests", *(path.stem for path in files), *(path.parent.name for path in files)}
        for path in files:
            tops = {module.partition(".")[0] for node in nodes(path) for module, _ in imported(node)} - {""}
            allowed = known | peers if path.parent.name == "benchmarks" else known
            strangers = tops - ours - allowed - sys.stdlib_module_names
            found += [f"{name(tree, path)} imports {stranger}, which is not declared" for stranger in sorted(strangers)]
    return found


def _distributions(*requirements: list[str]) -> set[str]:
    """Names as they are imported: a distribution's with underscores, but for those that chose another one."""
    names = (re.split(r"[^\w-]", line)[0] for lines in requirements for line in lines)
    return {_IMPORTED_AS.get(one, one.replace("-", "_")) for one in names}


def comments_that_cite_tickets(tree: Path) -> list[str]:
    """A comment gives the reason itself; a ticket's number means nothing to who reads it later."""
    found = []
    for path in everything(tree):
        with path.open("rb") as source:
            for token in tokenize.tokenize(source.readline):
                if token.type == tokenize.COMMENT and _TICKET.search(token.string):
                    found.append(f"{name(tree, path)}:{token.start[0]} cites a ticket")
    return found


def mocks(tree: Path) -> list[str]:
    """Tests talk to the real thing."""
    return [
        f"{name(tree, path)}:{getattr(node, 'lineno', 0)} imports mocks"
        for path in (tree / "tests").rglob("*.py")
        for node in nodes(path)
        if any(f"{module}.{what}".startswith(("unittest.mock", "pytest_mock")) for module, what in imported(node))
    ]


RULES: Final[tuple[Callable[[Path], list[str]], ...]] = (
    environment_outside_settings,
    settings_nobody_reads,
    own_clock,
    caught_exceptions,
    long_files,
    long_functions,
    vague_names,
    silent_modules,
    tables_outside_their_pair,
    unlisted_read_models,
    topics_without_golden,
    migrations_out_of_order,
    edited_migrations,
    undeclared_imports,
    comments_that_cite_tickets,
    mocks,
)
