"""Imports point one way: a room of the package knows those below it alone."""

import ast
import re
from pathlib import Path

import bisector

# From the bottom up; rooms of one line do not know each other.
LAYERS = [
    {"_attributes", "_version", "errors"},
    {"checks", "cores", "files"},
    {"records", "functional"},
    {"statistics"},
    {"engine", "information", "metrics", "guides", "networks"},
    {"heads", "optim"},
    {"data"},
    {"posthoc"},
    {"measurement"},
    {"training"},
    {"embedding", "detection"},
    {"report", "benchmarks", "inference", "integrations"},
    {"cli"},
]
PLACE = {room: place for place, rooms in enumerate(LAYERS) for room in rooms}
ROOT = Path(bisector.__file__).parent


def room_of(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def test_no_import_runs_upward() -> None:
    wrong = []
    for file in ROOT.rglob("*.py"):
        parts = file.relative_to(ROOT).parts
        room = room_of(parts)
        if parts[0].startswith("__"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                words = name.split(".")
                if words[0] == "bisector" and len(words) > 1 and words[1] != room:
                    below = PLACE[words[1]] < PLACE[room]
                    wrong += [] if below else [f"{'/'.join(parts)} imports {name}"]
    assert not wrong


def test_every_room_is_on_the_page_on_its_line() -> None:
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    lines = page.partition("From the top:\n\n")[2].partition("\n\n")[0].split("\n- ")
    told = [set(re.findall(r"\*\*(\w+)\*\*", line)) for line in lines]
    assert told == [{room for room in rooms if room[0] != "_"} for rooms in reversed(LAYERS)]
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").is_file()}
    assert rooms <= set(PLACE)
