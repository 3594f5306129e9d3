"""The blocks of code in the documentation, and what they do when a reader types them one after another."""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bisector.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]

_BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```(\w+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\w+\.py)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: "python", "console" or another language, and the comment above it.

    Python runs, unless the comment says "not run: REASON"; if its first line is a comment with the name of a file,
    it is that file. What a console shows is parsed; below "run" it also runs, and what stands beneath a command is
    what it prints. A block below "output" is what the Python before it prints. Numbers may differ, words may not.
    """

    page: str
    line: int
    language: str
    text: str
    marker: str

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """Each command of a console, without its prompt, and the lines printed below it."""
        found: list[tuple[str, list[str]]] = []
        for line in self.text.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
        return found


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start(3)), found[2], found[3], found[1] or "")
        for found in _BLOCK.finditer(text)
    ]


@dataclass
class Reader:
    """Does in a folder, which is the current one, what a page says; keeps the names and what was printed."""

    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    printed: dict[str, str] = field(default_factory=dict)
    blocks: int = 0

    def follow(self, page: str) -> None:
        """Run what is to be run of a page."""
        told = ""
        for block in blocks_of(page):
            if block.marker.startswith("not run: "):
                continue
            place = f"{page}:{block.line}"
            if block.language == "python":
                told = self._python(block, place)
                self.blocks += 1
            elif block.marker == "output":
                assert_shown(block.text.splitlines(), told, place)
            elif block.language == "console" and block.marker == "run":
                for command, shown in block.commands:
                    self.printed[command] = run(command)
                    assert_shown(shown, self.printed[command], f"{place}: {command}")

    def _python(self, block: Block, place: str) -> str:
        file = _FILE.match(block.text)
        if file:
            Path(file[1]).write_text(block.text, encoding="utf-8")
            return ""
        with _captured() as out:
            exec(compile("\n" * block.line + block.text, place.partition(":")[0], "exec"), self.names)
        return out.getvalue()


@contextlib.contextmanager
def _captured() -> Iterator[io.StringIO]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        yield out


def run(command: str) -> str:
    """Run a command of a console, which must succeed; return what it printed."""
    words = shlex.split(command, comments=True)
    if words[0] == "bisector":
        with _captured() as out:
            code = main(words[1:])
            told = out.getvalue()
        assert code == 0, f"{command}\n{told}"
        return told
    program = {"torchrun": ["-m", "torch.distributed.run", "--standalone"], "python": []}[words[0]]
    done = subprocess.run(
        [sys.executable, *program, *words[1:]], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_shown(shown: Sequence[str], printed: str, place: str) -> None:
    """Raise unless each line shown is among those printed, whatever the numbers; "..." stands for any."""
    lines = {_masked(line) for line in printed.splitlines()}
    for line in shown:
        assert line.strip() in {"", "..."} or _masked(line) in lines, f"{place} shows {line!r} of\n{printed}"


def _masked(line: str) -> str:
    """Return a line without its numbers, signs and the widths of its columns."""
    return " ".join(re.sub(r"\d[\d,.]*(e-?\d+)?", "#", re.sub(r"[−+–─-]", " ", line)).split())
