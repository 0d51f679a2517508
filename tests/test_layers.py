"""
The house's rules, held by reading the sources: imports point one way, as the map in ``twistedipc/__init__.py`` says,
folders say truly what is in them, only one room writes attempts, and nothing becomes too large to be changed.
"""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from hypothesis import settings

from twistedipc import ipc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "twistedipc"

#: part of the package -> the other parts that it may import
ALLOWED: dict[str, set[str]] = {
    "ipc": set(),
    "builds": set(),
    "disk": set(),
    "s3": set(),
    "trees": {"builds", "disk"},
    "attempts": {"builds", "disk"},
    "isolation": {"builds", "attempts"},
    "registries": set(),
    "toolchains": {"builds", "disk", "attempts", "registries"},
    "publish": {"builds", "disk", "attempts", "trees", "registries"},
    "caches": {"builds", "disk", "attempts"},
    # Which targets there are, and what they want of a runner; their work is done in processes of its steps.
    "runner": {
        "builds",
        "disk",
        "attempts",
        "isolation",
        "registries",
        "toolchains",
        "publish",
        "caches",
        "trees",
    },
    "terminal": {"builds"},
    "finding": {"sealed"},
    "outgoing": {"builds"},
    "sealed": {"builds"},
    "storage": {"builds", "disk", "s3", "publish", "outgoing", "sealed"},
    "builder": {"ipc", "builds", "disk", "attempts", "isolation", "publish", "caches"},
    "server": {"ipc", "builds", "attempts", "outgoing", "sealed", "storage", "publish", "finding"},
    "web": {"ipc", "builds", "terminal", "outgoing", "sealed", "storage", "publish", "finding", "server"},
    "taps": {
        "ipc",
        "builds",
        "disk",
        "attempts",
        "isolation",
        "caches",
        "outgoing",
        "s3",
        "storage",
        "registries",
        "toolchains",
        "publish",
        "builder",
        "server",
        "web",
    },
    "cli": {
        "ipc",
        "builds",
        "caches",
        "finding",
        "isolation",
        "terminal",
        "outgoing",
        "registries",
        "s3",
        "storage",
        "toolchains",
        "trees",
        "publish",
        "web",
        "taps",
    },
    "chaos": {"builds", "disk", "attempts", "web", "taps", "cli"},
    "conform": {"cli"},  # not ``ipc``, whose faults it would have too
}

#: folder with rooms -> room -> the other rooms of the folder that it may import. The modules beside the rooms (ipc's
#: face, web's root) may import them all.
ROOMS: dict[str, dict[str, set[str]]] = {
    "ipc": {
        "wire": set(),
        "places": {"wire"},
        "connections": {"wire", "places"},
        "links": {"wire", "places", "connections"},
        "streams": {"wire", "connections"},
    },
    "server": {"fanout": set(), "outbox": set()},
    "web": {
        "http": set(),
        "access": {"http"},
        "logs": {"http", "access"},
        "live": {"http", "access"},
        "page": {"http"},
        "releases": {"http", "access"},
        "api": {"http", "access", "logs"},
    },
}

#: folder with rooms -> the modules beside its rooms that these may import
SHARED: dict[str, set[str]] = {"server": {"archived", "boundaries", "workflows"}}

#: part -> the modules of it by which other parts, but for the composition roots, may reach it
DOORS: dict[str, set[str]] = {"server": {"twistedipc.server.boundaries"}}

#: Pure, or without Twisted by design: one process per attempt has no reactor.
WITHOUT_TWISTED = [
    "builds",
    "terminal",
    "outgoing",
    "sealed",
    "disk",
    "attempts",
    "isolation",
    "registries",
    "s3",
    "toolchains",
    "caches",
    "trees",
    "finding",
    "conform",
    "runner",
    "ipc/wire",
    "ipc/places/keys.py",
    "ipc/places/credentials.py",
    "ipc/streams/outbox.py",
    "web/api/schemas.py",
    "web/api/mcp/asking.py",
    "web/api/mcp/budget.py",
    "web/api/mcp/failure.py",
    "web/api/mcp/methods.py",
    "web/api/mcp/protocol.py",
    "web/api/mcp/tools.py",
    "web/http/problems.py",
    "web/logs/messages.py",
    "storage/rows.py",
    "publish/archive.py",
    "publish/members.py",
    "publish/targets/npm/client.py",
    "publish/targets/npm/deliver.py",
    "publish/targets/static/hashed_names.py",
    "publish/targets/static/history.py",
    "publish/targets/static/pool.py",
    "publish/targets/static/release.py",
    "publish/pack.py",
    "publish/site_paths.py",
]


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


@cache
def inside(tree: ast.Module) -> tuple[ast.AST, ...]:
    """All that a module's source is made of: to walk through it takes as long as to read it."""
    return tuple(ast.walk(tree))


def nodes(path: Path) -> tuple[ast.AST, ...]:
    return inside(parsed(path))


@pytest.fixture(scope="module", autouse=True)
def forgotten() -> Iterator[None]:
    """The trees are millions of objects: none is looked at for garbage while they are made, and none is kept behind."""
    gc.disable()
    yield
    for each in (parsed, inside):
        each.cache_clear()
    gc.enable()


@cache
def names() -> dict[str, Path]:
    """Every module of the package, by its full name."""
    return {name_of(path): path for path in modules(PACKAGE)}


@cache
def imports(path: Path) -> list[tuple[int, str]]:
    """Line and full name of everything that a module imports, wherever in it; "a.b" for ``from a import b``."""
    found = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def part_of(name: str) -> str | None:
    """The part of the package that an imported name is in; None for other packages and for the root itself."""
    parts = name.split(".")
    if parts[0] != "twistedipc" or len(parts) < 2 or parts[1] not in ALLOWED:
        return None
    return parts[1]


def test_every_folder_is_on_the_map() -> None:
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in modules(PACKAGE) if path.parent != PACKAGE}
    assert folders == set(ALLOWED)


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_point_down(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {part} imports {name}"
        for path in modules(PACKAGE / part)
        for line, name in imports(path)
        if (other := part_of(name)) is not None and other != part and other not in ALLOWED[part]
    ]
    assert wrong == []


@pytest.mark.parametrize("part", DOORS)
def test_a_part_is_reached_by_its_door(part: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules(PACKAGE)
        if path.relative_to(PACKAGE).parts[0] not in (part, "taps")
        for line, name in imports(path)
        if part_of(name) == part and name.rpartition(".")[0] not in DOORS[part]
    ]
    assert wrong == []


def test_the_map_has_no_circle() -> None:
    order: list[str] = []
    while len(order) < len(ALLOWED):
        free = [part for part in ALLOWED if part not in order and ALLOWED[part] <= set(order)]
        assert free, f"a circle among {set(ALLOWED) - set(order)}"
        order += free


def test_the_platform_stands_on_the_public_face_of_its_framework() -> None:
    """What the platform needs of ``ipc`` is a public name there, and documented."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in modules(PACKAGE)
        if path.relative_to(PACKAGE).parts[0] != "ipc"
        for line, name in imports(path)
        if name.startswith("twistedipc.ipc.") and name.removeprefix("twistedipc.ipc.") not in ipc.__all__
    ]
    assert wrong == []


@pytest.mark.parametrize("part", ROOMS)
def test_every_room_is_on_the_map(part: str) -> None:
    rooms = {path.parent.relative_to(PACKAGE / part).parts[0] for path in (PACKAGE / part).glob("*/**/*.py")}
    assert rooms - {"__pycache__"} == set(ROOMS[part])


@pytest.mark.parametrize(("part", "room"), [(part, room) for part in ROOMS for room in ROOMS[part]])
def test_imports_inside_a_folder_point_down(part: str, room: str) -> None:
    allowed = {room, *ROOMS[part][room], *SHARED.get(part, ())}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room} imports {name}"
        for path in modules(PACKAGE / part / room)
        for line, name in imports(path)
        if name.startswith(f"twistedipc.{part}.") and name.split(".")[2] not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("part", ROOMS)
def test_the_map_of_rooms_has_no_circle(part: str) -> None:
    order: list[str] = []
    while len(order) < len(ROOMS[part]):
        free = [room for room in ROOMS[part] if room not in order and ROOMS[part][room] <= set(order)]
        assert free, f"a circle among {set(ROOMS[part]) - set(order)}"
        order += free


@pytest.mark.parametrize("place", WITHOUT_TWISTED)
def test_no_twisted_where_there_is_no_reactor(place: str) -> None:
    path = PACKAGE / place
    assert path.exists(), f"{place} was moved: say where"
    wrong = [
        f"{module.relative_to(ROOT)}:{line}: {name}"
        for module in (modules(path) if path.is_dir() else [path])
        for line, name in imports(module)
        if name.split(".")[0] in ("twisted", "autobahn", "zope")
    ]
    assert wrong == []


#: What is in the process of an attempt's gate, and never in its runner.
GATE = {"network/gate.py", "network/splicing.py", "network/__main__.py"}


def test_the_runner_needs_little() -> None:
    """One process per attempt: it is to start fast and stay small."""
    heavy = {"sqlalchemy", "alembic", "werkzeug", "click", "rich", "asyncio", "urllib3", "http"}
    wrong = [
        f"{module.relative_to(ROOT)}:{line}: {name}"
        for module in [
            path for part in ("builds", "disk", "attempts", "isolation", "runner") for path in modules(PACKAGE / part)
        ]
        for line, name in imports(module)
        if name.split(".")[0] in heavy and module.parent.name + "/" + module.name not in GATE
    ]
    assert wrong == []


#: What the domain may use of Python: nothing of it opens, prints, waits, draws lots, or asks the system something.
PURE_MODULES = {
    "__future__",
    "codecs",
    "collections",
    "dataclasses",
    "datetime",  # but for what asks the clock, see `CLOCK`
    "enum",
    "base64",
    "functools",
    "hashlib",
    "hmac",
    "idna",
    "ipaddress",
    "msgspec",
    "re",
    "struct",
    "tomllib",
    "types",
    "typing",
    "unicodedata",
    "urllib.parse",
    "zlib",
}
CLOCK = {"now", "utcnow", "today"}
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}


def impurities(source: str, name: str = "") -> list[str]:
    """What keeps a module's source from being pure, by line."""
    found = []
    for node in ast.walk(ast.parse(source, name)):
        match node:
            case ast.Import(names=aliases):
                modules = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module)):
                modules = [module]
            case ast.Name(id=builtin) if builtin in IMPURE_BUILTINS:
                found.append(f"{name}:{node.lineno}: {builtin}")
                continue
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=clock) if clock in CLOCK:
                found.append(f"{name}:{node.lineno}: {clock}")
                continue
            case _:
                continue
        for module in modules:
            if part_of(module) != "builds" and not {module, module.split(".")[0]} & PURE_MODULES:
                found.append(f"{name}:{node.lineno}: {module}")
    return found


def test_the_domain_is_pure() -> None:
    """No file, no output, no signal, no environment, no clock, no chance: `builds` runs the same everywhere."""
    found = [what for path in modules(PACKAGE / "builds") for what in impurities(path.read_text(), path.name)]
    assert found == []


def test_what_is_impure_is_seen() -> None:
    for source in (
        "import os",
        "def f():\n    from os.path import exists",
        "import time",
        "from pathlib import Path",
        "import urllib.request",
        "from twistedipc.disk.files import write_file",
        "def f():\n    print(1)",
        "read = open",
        "from datetime import date\nday = date.today()",
        "from datetime import UTC, datetime\nbegan = datetime.now(UTC)",
    ):
        assert impurities(source), source
    assert impurities("from urllib.parse import urlsplit\nfrom twistedipc.builds import names\nimport re") == []


def test_only_the_composition_roots_import_the_reactor() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules(PACKAGE)
        for line, name in imports(path)
        if name.startswith("twisted.internet.reactor") and path.parent != PACKAGE / "taps"
    ]
    assert wrong == []


def test_nothing_imports_tests() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in [*modules(PACKAGE), *modules(ROOT / "twisted")]
        for line, name in imports(path)
        if name.split(".")[0] in ("tests", "bench", "pytest", "hypothesis")
    ]
    assert wrong == []


def test_each_module_says_what_it_is() -> None:
    silent = [
        name_of(path)
        for path in modules(PACKAGE)
        if ast.get_docstring(parsed(path)) is None and path.read_bytes().strip()
    ]
    assert silent == []


def test_the_plugins_folder_is_no_package() -> None:
    # With an __init__.py there, Twisted's own plugins would be hidden.
    assert not (ROOT / "twisted/__init__.py").exists()
    assert not (ROOT / "twisted/plugins/__init__.py").exists()


def test_no_test_of_properties_has_a_deadline() -> None:
    """Hypothesis' deadline is wall-clock time: ``conftest.py`` turns it off for all tests, and none turns it on."""
    assert settings().deadline is None
    for path in modules(ROOT / "tests"):
        if "deadline=" not in path.read_text("utf-8"):
            continue  # to parse all of them takes seconds
        for node in nodes(path):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "settings":
                assert not [keyword for keyword in node.keywords if keyword.arg == "deadline"], path


# -- who writes attempts ---------------------------------------------------------------------------------------------

#: The only writer of attempts.
LIFECYCLE = "twistedipc/server/lifecycle.py"

#: (module, function): what beside it may write something of an attempt that is no state of it.
ALSO_WRITTEN = {
    ("twistedipc/server/releasing.py", "standing.note_standing"),  # why its release isn't live
    ("twistedipc/server/pruning.py", "retention.remove"),  # that its log was removed, or that it was itself
    ("twistedipc/server/fanout/store.py", "sealed_logs.note_damaged"),  # that its log is not whole any more
    ("twistedipc/server/fanout/store.py", "sealed_logs.note_lost"),  # likewise
}


def aliases(tree: ast.Module) -> dict[str, str]:
    """What a module calls other modules of the storage, and functions of theirs: name -> "module" or "module.name"."""
    found: dict[str, str] = {}
    for node in inside(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("twistedipc.storage"):
            room = node.module.removeprefix("twistedipc.storage").lstrip(".")
            for alias in node.names:
                found[alias.asname or alias.name] = f"{room}.{alias.name}" if room else alias.name
    return found


def names_in(node: ast.AST, known: dict[str, str]) -> Iterator[str]:
    """The full names, as ``module.name``, of what is mentioned of the storage."""
    for each in inside(node) if isinstance(node, ast.Module) else ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id in known:
            yield f"{known[each.value.id]}.{each.attr}"
        elif isinstance(each, ast.Name) and each.id in known:
            yield known[each.id]


@cache
def writers_of_attempts() -> set[str]:
    """The functions of the storage that write the table, by themselves or by one that they mention."""
    mentions: dict[str, set[str]] = {}
    writers: set[str] = set()
    for path in modules(PACKAGE / "storage"):
        tree = parsed(path)
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        known = aliases(tree) | {function.name: f"{path.stem}.{function.name}" for function in functions}
        for function in functions:
            name = f"{path.stem}.{function.name}"
            mentions[name] = set(names_in(function, known)) - {name}
            for call in ast.walk(function):
                writes = isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("insert", "update", "delete")
                if writes and "tables.attempts" in names_in(call, known):
                    writers.add(name)
    while more := {name for name, mentioned in mentions.items() if mentioned & writers} - writers:
        writers |= more
    return writers


def test_the_ledger_functions_that_write_attempts_are_found() -> None:
    assert writers_of_attempts() >= {
        "attempts.accept",
        "attempts.finish",
        "attempts.note_cancel",
        "attempts.queue",
        "builds.create",
        "builds.request_cancel",
        "permits.give",
        "reruns.lose",
    }


def test_only_the_lifecycle_writes_attempts() -> None:
    writers = writers_of_attempts()
    found = {
        (str(path.relative_to(ROOT)), name)
        for path in modules(PACKAGE)
        if path.parent != PACKAGE / "storage" and str(path.relative_to(ROOT)) != LIFECYCLE
        if (known := aliases(parsed(path)))
        for name in names_in(parsed(path), known)
        if name in writers
    }
    assert found == ALSO_WRITTEN


# -- modules named by a string ---------------------------------------------------------------------------------------

#: (part, other part): what is started, or loaded when it is wanted, by its name, against the map's direction.
BY_NAME = {
    ("builder", "runner"),  # a process of its own, which outlives the builder
    ("taps", "runner"),  # a process of the apiserver's: a runner's last step
    ("cli", "chaos"),  # a command like the others, loaded when it is called; what it does stands on cli
    ("cli", "conform"),  # likewise
}


def named_modules(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each module of the package that a string names; docstrings aren't looked at."""
    all_nodes = inside(tree)
    documentation = {
        id(node.body[0].value)
        for node in all_nodes
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and isinstance(node.body[0], ast.Expr)
    }
    for node in all_nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            for name in re.findall(r"twistedipc(?:\.\w+)+", node.value):
                if name in names():
                    yield node.lineno, name


def test_modules_that_strings_name_are_below_too() -> None:
    found = {
        (part, other)
        for part in ALLOWED
        for path in modules(PACKAGE / part)
        for _line, name in named_modules(parsed(path))
        if (other := part_of(name)) not in (None, part) and other not in ALLOWED[part]
    }
    assert found == BY_NAME


def test_a_module_named_by_a_string_is_seen() -> None:
    source = 'def run():\n    """Not twistedipc.server."""\n    start(["python", "-m", "twistedipc.publish"])\n'
    assert list(named_modules(ast.parse(source))) == [(3, "twistedipc.publish")]


# -- circles, and what isn't used ------------------------------------------------------------------------------------


def imported_files(path: Path) -> set[str]:
    """The modules of the package that a module imports, also for its types alone."""
    both = {name for _line, full in imports(path) for name in (full, full.rpartition(".")[0])}
    return {name for name in both if name in names() and name != name_of(path)}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle in a graph, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def test_no_files_import_one_another() -> None:
    assert circle({name: imported_files(path) for name, path in names().items()}) == []


def test_what_is_allowed_is_used() -> None:
    parts = {(part, part_of(name)) for part in ALLOWED for path in modules(PACKAGE / part) for _, name in imports(path)}
    assert [(part, other) for part in ALLOWED for other in ALLOWED[part] if (part, other) not in parts] == []
    rooms = {
        (part, room, name.removeprefix(f"twistedipc.{part}.").split(".")[0])
        for part in ROOMS
        for room in ROOMS[part]
        for path in modules(PACKAGE / part / room)
        for _, name in imports(path)
        if name.startswith(f"twistedipc.{part}.")
    }
    unused = {(part, room, other) for part in ROOMS for room in ROOMS[part] for other in ROOMS[part][room]} - rooms
    assert unused == set()
    shared = {(part, other) for part, _room, other in rooms}
    assert [(part, name) for part in SHARED for name in SHARED[part] if (part, name) not in shared] == []


# -- maps ------------------------------------------------------------------------------------------------------------

FOLDERS = sorted({path.parent for path in modules(PACKAGE) if (path.parent / "__init__.py").exists()})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_a_folder_says_what_is_in_it(folder: Path) -> None:
    """Each module and folder is named in the map, the docstring of ``__init__.py``, and nothing that isn't there."""
    text = ast.get_docstring(parsed(folder / "__init__.py")) or ""
    there = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    there |= {path.parent.name for path in folder.glob("*/__init__.py")}
    assert there - set(re.findall(r"\w+", text)) == set(), "missing in the map"
    if folder != PACKAGE:  # the root's map has several on a line
        entries = re.findall(r"^(?:    |- )(?:``)?([a-z_0-9]+)(?:\.py|/)?(?:``)?(?::|\s{2,})", text, re.MULTILINE)
        assert set(entries) - there == set(), "in the map, but not there"


# -- sizes -----------------------------------------------------------------------------------------------------------

#: What one person can hold in mind: branches of a function, attributes that a class's methods assign.
MOST_BRANCHES = 15
MOST_ATTRIBUTES = 15

#: What has more, and how many. None may grow.
BRANCHES: dict[str, int] = {}
ATTRIBUTES: dict[str, int] = {}

_BRANCH = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.While,
    ast.BoolOp,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
)


def branches(function: ast.AST) -> int:
    return sum(isinstance(node, _BRANCH) for node in ast.walk(function))


def attributes(class_: ast.ClassDef) -> set[str]:
    """The names of what is assigned to ``self`` anywhere in a class."""
    targets: list[ast.expr] = []
    for node in ast.walk(class_):
        match node:
            case ast.Assign(targets=assigned):
                targets += assigned
            case ast.AnnAssign(target=assigned_one) | ast.AugAssign(target=assigned_one):
                targets.append(assigned_one)
    return {
        target.attr
        for target in targets
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"
    }


def too_large(sizes: Iterable[tuple[str, int]], most: int, known: dict[str, int]) -> dict[str, int]:
    """What is above its ceiling, and how large it is."""
    return {name: size for name, size in sizes if size > known.get(name, most)}


def sizes_of_functions() -> Iterator[tuple[str, int]]:
    for name, path in names().items():
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.name}", branches(node)


def sizes_of_classes() -> Iterator[tuple[str, int]]:
    for name, path in names().items():
        for node in nodes(path):
            if isinstance(node, ast.ClassDef):
                yield f"{name}:{node.name}", len(attributes(node))


def test_no_function_has_more_branches_than_one_can_follow() -> None:
    assert too_large(sizes_of_functions(), MOST_BRANCHES, BRANCHES) == {}


def test_no_class_has_more_attributes_than_one_can_follow() -> None:
    assert too_large(sizes_of_classes(), MOST_ATTRIBUTES, ATTRIBUTES) == {}


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


def test_sizes_are_counted() -> None:
    (class_,) = ast.parse("class A:\n def f(self):\n  self.a: int = 1\n  self.b += 1\n  self.a = b.c = 2").body
    assert isinstance(class_, ast.ClassDef)
    assert attributes(class_) == {"a", "b"}
    assert branches(ast.parse("if a and b:\n  x = [c for c in d]\nelse:\n  y = 1 if c else 2")) == 4
    assert too_large([("a", 3), ("b", 5)], 2, {"b": 5}) == {"a": 3}
