"""What docs/architecture.md promises about the code as a whole, held by reading the code.

Each rule is a function from files (path beneath the repository to source) to violations, and each is shown a violation
of its own, so that none can fall silent.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FILES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in sorted((REPOSITORY / "forkserver").rglob("*.py"))
}

Files = dict[str, str]
Rule = Callable[[Files], list[str]]

# What each part may import of us, besides itself. "base" are the modules right beneath forkserver/.
LAYERS = {
    "protocol": set[str](),
    "kernel": {"base"},
    "base": {"protocol"},
    "ipc": {"base", "protocol", "kernel"},
    "child": {"base", "protocol", "kernel", "ipc"},
    "master": {"base", "protocol", "kernel", "ipc"},
    "supervisor": {"base", "protocol", "kernel", "ipc"},
    "front": {"base", "protocol", "kernel", "ipc", "supervisor"},
    "client": {"protocol"},
}
# The same among the packages of the client, and the modules right beneath it that all of them may import.
ROOMS = {"remote": set[str](), "local": set[str](), "fetch": {"remote", "local"}}
SHARED = {"content", "display", "events", "outcome"}
# The composition root: the one place that hands the child to the master.
COMPOSITION_ROOT = "forkserver/master/__main__.py"
# What runs in a master or a child, and what both may load.
LEAN = {"base", "protocol", "kernel", "ipc", "master", "child"}

# All that may stand right beneath forkserver/; everything else has a folder.
BASE = {"__init__", "errors", "logline", "settings"}

FORK = {"fork", "forkpty", "_exit", "posix_spawn", "posix_spawnp"}
WAIT = {"wait", "wait3", "wait4", "waitid", "waitpid"}
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
CLOCK = {"monotonic", "monotonic_ns"}

# Each would make every fork dearer, by what it imports or by what it does at a fork.
BANNED = {
    *("asyncio", "concurrent.futures", "dataclasses", "importlib.metadata", "logging", "queue", "random", "secrets"),
    *("socketserver", "subprocess", "tempfile", "threading", "typing"),
}


@functools.cache
def tree(source: str) -> ast.Module:
    return ast.parse(source)


def part(path: str) -> str:
    """The part of the project that a file belongs to: a package beneath forkserver/, or base."""
    folders = path.split("/")[1:-1]
    return folders[0] if folders else "base"


def imports(path: str, root: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported beneath ``root``, be it a module or a name in one."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(root):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*outer, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def uses(path: str, source: str, module: str, names: set[str]) -> Iterator[tuple[int, str]]:
    """Line and name of each mention of ``module.name``, however it was imported."""
    aliases = {module}
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            aliases |= {alias.asname for alias in node.names if alias.name == module and alias.asname}
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) in aliases:
            yield node.lineno, f"{module}.{node.attr}"
    for line, name in imports(path, tree(source)):
        if name in {f"{module}.{each}" for each in names}:
            yield line, name


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring included."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def imports_point_one_way(files: Files) -> list[str]:
    found = []
    for path, source in files.items():
        allowed = LAYERS[part(path)] | {part(path)} | ({"child"} if path == COMPOSITION_ROOT else set())
        for line, name in imports(path, tree(source)):
            top, *rest = name.split(".")
            other = rest[0] if rest and rest[0] in LAYERS else "base"
            if top == "forkserver" and rest != ["__version__"] and other not in allowed:
                found.append(f"{path}:{line}: {part(path)} must not import {name}")
    return found


def the_rooms_of_the_client_point_one_way(files: Files) -> list[str]:
    found = []
    for path, source in files.items():
        room = path.split("/")[2] if part(path) == "client" else ""
        if room in ROOMS:
            for line, name in imports(path, tree(source)):
                words = name.split(".")
                if words[:2] == ["forkserver", "client"] and words[2] not in ROOMS[room] | {room} | SHARED:
                    found.append(f"{path}:{line}: {room} must not import {name}")
    return found


def only_the_base_is_in_no_folder(files: Files) -> list[str]:
    names = {path: path.split("/")[1].removesuffix(".py") for path in files if part(path) == "base"}
    return [f"{path}: belongs in a folder" for path, name in names.items() if name not in BASE]


def module_of(path: str) -> str:
    """The name by which a file is imported."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def no_circles_between_modules(files: Files) -> list[str]:
    """Imports that are only for types count, too: a reader follows them all the same."""
    paths = {module_of(path): path for path in files}
    ahead: dict[str, set[str]] = {}
    for module, path in paths.items():
        named = {name for _, name in imports(path, tree(files[path]))}
        found = {name if name in paths else name.rpartition(".")[0] for name in named}
        ahead[module] = (found & paths.keys()) - {module}
    # What imports nothing that is left is in no circle, nor what is imported by nothing that is left.
    left = set(ahead)
    while ends := {
        module for module in left if not ahead[module] & left or not any(module in ahead[other] for other in left)
    }:
        left -= ends
    return [f"{paths[module]}: imports in a circle {sorted(ahead[module] & left)}" for module in sorted(left)][:1]


def class_names_are_unique(files: Files) -> list[str]:
    owner: dict[str, str] = {}
    return [
        f"{path}:{node.lineno}: {node.name} is also a class of {owner[node.name]}"
        for path, source in files.items()
        for node in ast.walk(tree(source))
        if isinstance(node, ast.ClassDef) and owner.setdefault(node.name, path) != path
    ]


def failure_words_are_an_enumeration(files: Files) -> list[str]:
    """A failure's word is compared with a member of ``Word``, not with a text that nobody checks."""
    return [
        f"{path}:{node.lineno}: compares a word with a text"
        for path, source in files.items()
        for node in ast.walk(tree(source))
        if isinstance(node, ast.Compare)
        for sides in [[node.left, *node.comparators]]
        if any(isinstance(side, ast.Attribute) and side.attr == "word" for side in sides)
        and any(
            isinstance(leaf, ast.Constant) and isinstance(leaf.value, str) for side in sides for leaf in ast.walk(side)
        )
    ]


def protocol_does_no_io(files: Files) -> list[str]:
    return [
        f"{path}:{line}: {name} in the protocol, which is sans-IO"
        for path, source in files.items()
        if part(path) == "protocol"
        for line, name in imports(path, tree(source))
        if name.split(".")[0] not in {"__future__", "enum", "forkserver"}
    ]


def _only_in(files: Files, module: str, names: set[str], allowed: Callable[[str], bool]) -> list[str]:
    return [
        f"{path}:{line}: {name} does not belong here"
        for path, source in files.items()
        if not allowed(path)
        for line, name in uses(path, source, module, names)
    ]


def forks_and_exits_are_in_spawn(files: Files) -> list[str]:
    return _only_in(files, "os", FORK, lambda path: path == "forkserver/master/spawn.py")


def waits_are_in_spawn_and_orphans(files: Files) -> list[str]:
    places = {"forkserver/master/spawn.py", "forkserver/supervisor/orphans.py"}
    return _only_in(files, "os", WAIT, lambda path: path in places)


def the_environment_is_read_by_those_who_talk_to_the_operator(files: Files) -> list[str]:
    places = {"forkserver/supervisor/systemd.py", "forkserver/supervisor/logoutput.py"}
    return _only_in(
        files,
        "os",
        ENVIRONMENT,
        lambda path: part(path) in {"front", "client"} or path in places,
    )


def the_clock_of_master_and_child_is_in_two_files(files: Files) -> list[str]:
    places = {"forkserver/master/loop.py", "forkserver/child/clock.py"}
    return _only_in(files, "time", CLOCK, lambda path: path in places or part(path) not in LEAN)


def ctypes_is_in_the_kernel_wall(files: Files) -> list[str]:
    return [
        f"{path}:{line}: {name} does not belong here"
        for path, source in files.items()
        if part(path) != "kernel"
        for line, name in imports(path, tree(source))
        if name.split(".")[0] in {"ctypes", "_ctypes"}
    ]


def master_and_child_import_at_the_top(files: Files) -> list[str]:
    return [
        f"{path}:{line}: imports {name} inside a function"
        for path, source in files.items()
        if part(path) in LEAN
        for function in ast.walk(tree(source))
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for line, name in imports(path, function)
    ]


def modules_are_short(files: Files) -> list[str]:
    lines = {path: len(source.splitlines()) for path, source in files.items()}
    return [f"{path}: {count} lines" for path, count in lines.items() if count > 400]


def functions_are_short(files: Files) -> list[str]:
    return [
        f"{path}:{node.lineno}: {node.name} has {length(node)} lines"
        for path, source in files.items()
        for node in ast.walk(tree(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and length(node) > 60
    ]


def modules_are_named_for_what_they_do(files: Files) -> list[str]:
    empty = {"util", "utils", "helper", "helpers", "common", "misc"}
    return [f"{path}: says nothing" for path in files if empty & set(path.removesuffix(".py").split("/"))]


def every_module_says_what_it_is(files: Files) -> list[str]:
    return [f"{path}: has no docstring" for path, source in files.items() if not ast.get_docstring(tree(source))]


SIXTY_LINES = "def f():\n" + "    pass\n" * 59
SIXTY_ONE_LINES = SIXTY_LINES + "    pass\n"

# The rule, and files each of which breaks it once.
PLANTED: list[tuple[Rule, Files]] = [
    (
        imports_point_one_way,
        {
            "forkserver/errors.py": "import forkserver.master.loop",
            "forkserver/protocol/native.py": "from forkserver import errors",
            "forkserver/kernel/prctl.py": "from forkserver.child import clock",
            "forkserver/child/session.py": "from forkserver.master.spawn import spawn",
            "forkserver/child/clock.py": "from ..supervisor import supervise",
            "forkserver/master/loop.py": "def f():\n    from forkserver import child",
            "forkserver/master/__main__.py": "from forkserver.front import cli",
            "forkserver/supervisor/supervise.py": "import forkserver.master.__main__",
            "forkserver/supervisor/generation.py": "if TYPE_CHECKING:\n    from forkserver.child import session",
            "forkserver/client/api.py": "from forkserver.supervisor import address",
            "forkserver/client/a.py": "from forkserver.settings import DEFAULT_PORT",
            "forkserver/ipc/control.py": "from forkserver.master import loop",
            "forkserver/front/cli.py": "import forkserver.client.command.cli",
        },
    ),
    (
        the_rooms_of_the_client_point_one_way,
        {
            "forkserver/client/remote/a.py": "from forkserver.client.local import partial",
            "forkserver/client/local/a.py": "from forkserver.client.fetch.tree import Tree",
            "forkserver/client/local/b.py": "if TYPE_CHECKING:\n    from forkserver.client.remote import listing",
            "forkserver/client/fetch/a.py": "from forkserver.client.api import Client",
        },
    ),
    (only_the_base_is_in_no_folder, {"forkserver/slots.py": "", "forkserver/utils.py": ""}),
    (
        no_circles_between_modules,
        {
            "forkserver/child/a.py": "import forkserver.child.b",
            "forkserver/child/b.py": "if TYPE_CHECKING:\n    from forkserver.child.a import A",
        },
    ),
    (
        class_names_are_unique,
        {
            "forkserver/child/c.py": "class C:\n    pass",
            "forkserver/master/d.py": "def f():\n    class C:\n        pass",
        },
    ),
    (
        failure_words_are_an_enumeration,
        {
            "forkserver/client/a.py": "failure.word == 'busy'",
            "forkserver/client/b.py": "failure.word in {Word.BUSY, 'not-found'}",
        },
    ),
    (
        protocol_does_no_io,
        {"forkserver/protocol/native.py": "import socket", "forkserver/protocol/bare.py": "from time import time"},
    ),
    (
        forks_and_exits_are_in_spawn,
        {
            "forkserver/master/loop.py": "import os\nos._exit(0)",
            "forkserver/child/session.py": "import os as o\no.fork()",
            "forkserver/supervisor/orphans.py": "from os import fork",
        },
    ),
    (
        waits_are_in_spawn_and_orphans,
        {
            "forkserver/master/loop.py": "import os\nos.waitpid(-1, 0)",
            "forkserver/supervisor/a.py": "from os import wait4",
        },
    ),
    (
        the_environment_is_read_by_those_who_talk_to_the_operator,
        {
            "forkserver/supervisor/listener.py": "import os\nos.environ['X']",
            "forkserver/master/a.py": "from os import getenv",
        },
    ),
    (
        the_clock_of_master_and_child_is_in_two_files,
        {
            "forkserver/child/session.py": "import time\ntime.monotonic()",
            "forkserver/ipc/a.py": "import time as t\nt.monotonic_ns",
        },
    ),
    (
        ctypes_is_in_the_kernel_wall,
        {
            "forkserver/master/confine.py": "import ctypes",
            "forkserver/child/a.py": "from ctypes.util import find_library",
        },
    ),
    (
        master_and_child_import_at_the_top,
        {
            "forkserver/master/loop.py": "def f():\n    import os",
            "forkserver/settings.py": "def f():\n    from os import path",
        },
    ),
    (modules_are_short, {"forkserver/child/a.py": "\n" * 401}),
    (
        functions_are_short,
        {"forkserver/child/b.py": SIXTY_ONE_LINES, "forkserver/errors.py": f"class C:\n  async {SIXTY_ONE_LINES}"},
    ),
    (modules_are_named_for_what_they_do, {"forkserver/utils.py": "", "forkserver/common/x.py": ""}),
    (every_module_says_what_it_is, {"forkserver/a.py": "import os"}),
]
# Rules that compare files: their planted files break them together.
BETWEEN_FILES: set[Rule] = {no_circles_between_modules, class_names_are_unique}


@pytest.mark.parametrize("rule", [rule for rule, _ in PLANTED], ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    assert rule(FILES) == []


@pytest.mark.parametrize(("rule", "planted"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_the_rule_finds_what_breaks_it(rule: Rule, planted: Files) -> None:
    if rule in BETWEEN_FILES:
        (violation,) = rule(planted)
        assert violation.startswith(tuple(planted))
        return
    for path, source in planted.items():
        (violation,) = rule({path: source})
        assert violation.startswith(path)


def test_the_rules_let_pass_what_they_allow() -> None:
    allowed = {
        "forkserver/master/__main__.py": '"""x"""\nimport forkserver.child.session',
        "forkserver/master/spawn.py": '"""x"""\nimport os\nos.fork()\nos.waitpid(-1, os.WNOHANG)\nos._exit(0)',
        "forkserver/supervisor/orphans.py": '"""x"""\nimport os\nos.waitid(0, 0, 0)',
        "forkserver/supervisor/systemd.py": '"""x"""\nimport os\nos.environ\nimport time\ntime.monotonic()',
        "forkserver/child/clock.py": '"""x"""\nimport time\ntime.monotonic()',
        "forkserver/kernel/libc.py": '"""x"""\nimport ctypes',
        "forkserver/front/cli.py": f'"""x"""\nfrom forkserver.supervisor import address\n{SIXTY_LINES}',
    }
    assert [violation for rule, _ in PLANTED for violation in rule(allowed)] == []


def lean_modules(files: Files) -> list[str]:
    """The names of all modules that run in a master or a child."""
    names = [path.removesuffix(".py").replace("/", ".") for path in files if part(path) in {"master", "child"}]
    return [name.removesuffix(".__init__") for name in names]


def heavy_imports(directory: Path, modules: list[str]) -> list[str]:
    """What importing ``modules`` from ``directory``, as the supervisor starts a master, loads that it must not."""
    # Importing must not run: a __main__ that starts to serve would need descriptors that are not there.
    path = f"import sys; sys.path.append({str(directory)!r})"
    program = f"{path}\nfor name in {modules!r}: __import__(name)\nprint(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-E", "-c", program]
    loaded = subprocess.run(
        command, capture_output=True, check=True, text=True, stdin=subprocess.DEVNULL
    ).stdout.split()
    known = sys.stdlib_module_names | {"forkserver", "__main__"}
    return [name for name in loaded if name in BANNED or name.split(".")[0] not in known]


def test_master_and_child_load_nothing_heavy() -> None:
    modules = lean_modules(FILES)
    assert "forkserver.master" in modules
    assert heavy_imports(REPOSITORY, modules) == []


def test_heavy_imports_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("")
    package = tmp_path / "forkserver" / "master"
    package.mkdir(parents=True)
    lines = [f"import {name}" for name in ("elsewhere", *sorted(BANNED))]
    (package / "__main__.py").write_text("\n".join([*lines, "if __name__ == '__main__':", "    raise SystemExit(1)"]))
    assert set(heavy_imports(tmp_path, ["forkserver.master.__main__"])) >= {"elsewhere", *BANNED}


def named_modules(document: str) -> dict[str, set[str]]:
    """The modules that the table under "Where things stand" names, by folder beneath forkserver/."""
    section = document.partition("\n## Where things stand\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (?:top of )?`([a-z/]+)/` \|.*?\| (.*) \|$", section, re.MULTILINE)
    return {"" if folder == "forkserver" else folder: set(re.findall(r"`(.*?)`", text)) for folder, text in rows}


def differences(document: str, files: Files) -> list[str]:
    """Return the modules that the table leaves out, and the names in the table that are no modules."""
    named = named_modules(document)
    there: dict[str, set[str]] = {}
    for path in files:
        folder, _, name = path.removeprefix("forkserver/").removesuffix(".py").rpartition("/")
        if name != "__init__":
            there.setdefault(folder, set()).add(name)
    found = []
    for folder in sorted(named.keys() | there.keys()):
        place = f"docs/architecture.md, row {folder or 'top of forkserver'}/"
        found += [
            f"{place}: `{name}` is missing" for name in sorted(there.get(folder, set()) - named.get(folder, set()))
        ]
        found += [
            f"{place}: `{name}` is no module" for name in sorted(named.get(folder, set()) - there.get(folder, set()))
        ]
    return found


def test_the_table_of_the_architecture_names_every_module_and_no_other() -> None:
    assert differences((REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8"), FILES) == []


def test_what_the_table_leaves_out_or_names_in_vain_is_noticed() -> None:
    document = (
        "# Built\n\n## Where things stand\n\n| folder | process | what |\n| --- | --- | --- |\n"
        "| `child/` | child | `a`, `b` (bees) |\n| top of `forkserver/` | all | `errors` |\n\n"
        "## Next\n\n| `x/` | y | `z` |\n"
    )
    files = ("child/__init__", "child/a", "child/c", "master/d", "errors", "settings")
    assert differences(document, {f"forkserver/{name}.py": "" for name in files}) == [
        "docs/architecture.md, row top of forkserver/: `settings` is missing",
        "docs/architecture.md, row child/: `c` is missing",
        "docs/architecture.md, row child/: `b` is no module",
        "docs/architecture.md, row master/: `d` is missing",
    ]


def test_the_files_are_there() -> None:
    assert {part(path) for path in FILES} == set(LAYERS)
    assert os.path.join("forkserver", "errors.py") in FILES
