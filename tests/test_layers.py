"""Imports go leftwards only, siblings not at all; torch.distributed and the environment have one home."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "linnet"

LAYERS = [
    ["errors", "version"],
    ["files", "settings", "runtime", "console", "streams"],
    ["tokenizers", "corpus"],
    ["data", "model"],
    ["run"],
    ["generate", "evaluate", "insight", "exchange"],
    ["lm"],
    ["evaluation"],
    ["training"],
    ["plots", "compare"],
    ["report"],
    ["lab", "demo", "sweep", "doctor"],
    ["verbs"],
    ["__main__"],
]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}

HOMES = {
    "os.environ": {"runtime.py"},
    "torch.distributed": {"training/ranks.py", "training/parallel.py"},
}


def room_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports anywhere, type checking included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "linnet":
                names = [f"linnet.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "linnet" and len(parts) > 1:
                found.add(parts[1])
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_rooms_that_have_a_place_are_there() -> None:
    assert RANK.keys() == {room_of(path) for path in FILES} - {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_leftwards(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return  # the face of the package names rooms lazily
    assert room in RANK, f"{room} has no place in the layers"
    for other in imported_rooms(path) & RANK.keys():
        allowed = other == room or RANK[other] < RANK[room]
        assert allowed, f"{room} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_has_one_home_stays_there(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name, homes in HOMES.items():
        if str(path.relative_to(PACKAGE)) not in homes:
            assert name not in text, f"{name} belongs to {', '.join(sorted(homes))}"
    assert "pickle.load" not in text
    assert "torch.load(" not in text


def module_of(path: Path) -> str:
    inside = path.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(inside.parts[:-1] if inside.name == "__init__" else inside.parts)


MODULES = {module_of(path): path for path in FILES}


def imported(path: Path) -> set[str]:
    """The modules of the package that the file `path` imports when it runs: at its top or in functions, but not for
    type checking alone."""
    found: set[str] = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            within = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= within & MODULES.keys() or {node.module}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            nodes += node.orelse
        else:
            nodes += ast.iter_child_nodes(node)
    return found & MODULES.keys()


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {name: imported(path) for name, path in MODULES.items()}
    done: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                follow(other, (*way, name))
            done.add(name)

    for name in graph:
        follow(name, ())


def test_files_stay_small_enough_to_read() -> None:
    scripts = [file for folder in ("benchmarks", "docs") for file in (PACKAGE.parent / folder).glob("*.py")]
    long = {p.name: n for p in [*FILES, *scripts] if (n := p.read_text(encoding="utf-8").count("\n")) > 400}
    assert not long


def test_classes_stay_small_enough_to_read() -> None:
    classes = {
        f"{path.name}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    assert not {name: lines for name, lines in classes.items() if lines > 150}
