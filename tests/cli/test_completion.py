"""`bisector completion`: the scripts in real shells, asked as they ask on TAB."""

import argparse
import os
import pty
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from bisector.cli.completion import SHELLS
from bisector.cli.main import command_parser, main
from bisector.heads import HEAD_NAMES

BASH, ZSH, FISH = map(shutil.which, SHELLS)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The script of every shell, in a file each."""
    from contextlib import redirect_stdout

    folder, found = tmp_path_factory.mktemp("completion"), {}
    for shell in SHELLS:
        found[shell] = folder / shell
        with found[shell].open("w") as file, redirect_stdout(file):
            assert main(["completion", shell]) == 0
    return found


def offered(script: Path, folder: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words, which the cursor is behind."""
    asked = [
        f"source {shlex.quote(str(script))}",
        f"COMP_WORDS=({shlex.join(words)}) COMP_CWORD={len(words) - 1}",
        "$(complete -p bisector | sed 's/.*-F \\([^ ]*\\).*/\\1/')",  # the function that is registered for it
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    done = subprocess.run(
        [BASH, "-c", "\n".join(asked)], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def fished(script: Path, folder: Path, line: str) -> list[str]:
    """What fish offers at the end of a line, without what it tells of each."""
    code = f"source {shlex.quote(str(script))}; complete -C {shlex.quote(line)}"
    command = [FISH, "--no-config", "-c", code]
    environment = {**os.environ, "HOME": str(folder)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stderr == ""
    return [offer.partition("\t")[0].rstrip("/") for offer in done.stdout.splitlines()]


class Terminal:
    """A zsh in a terminal, which completes what is typed when TAB is pressed."""

    def __init__(self, folder: Path, setup: list[str]) -> None:
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.environ.update(TERM="dumb", HOME=str(folder), COLUMNS="200")
            os.execvp(str(ZSH), [str(ZSH), "-f", "-i"])
        show = "show() { print -r -- \"is<$BUFFER>\" }; zle -N show; bindkey '^Xb' show"
        lines = ["autoload -Uz compinit; compinit -u -D", *setup, show, "print rea''dy"]
        os.write(self.terminal, "".join(f"{line}\n" for line in lines).encode())
        self.setup = self.read("ready\r\n")

    def read(self, until: str) -> str:
        """What zsh writes, up to these words."""
        seen, deadline = "", time.monotonic() + 60
        while until not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self.terminal], [], [], 0.2)[0]:
                seen += os.read(self.terminal, 2**16).decode(errors="replace")
        return seen

    def completed(self, line: str) -> str:
        """The line as TAB leaves it."""
        os.write(self.terminal, f"{line}\t\x18b".encode())  # TAB, and ^Xb
        found = self.read(">\r\n").rpartition("is<")[2].partition(">")[0]
        os.write(self.terminal, b"\x15")  # ^U
        return found

    def close(self) -> None:
        """End it."""
        os.close(self.terminal)
        os.waitpid(self.process, 0)


CASES: list[tuple[str, list[str]]] = [
    ("bisector tr", ["train"]),
    ("bisector --ver", ["--version"]),
    ("bisector detect ev", ["evaluate"]),
    ("bisector compare --seeds", ["--seeds"]),
    ("bisector detect adjust --js", ["--json"]),
    ("bisector compare --heads ig", ["igam"]),
    ("bisector compare --keep --heads arc", ["arcface"]),
    ("bisector train --head am", ["am-softmax"]),
    ("bisector train --epochs 3 --decide ge", ["geometry"]),
    ("bisector train --data fash", ["fashion-mnist"]),
    ("bisector train --data ph", ["photos"]),
    ("bisector detect train --data ci", []),
    ("bisector embed photos cifar100", ["cifar100"]),
    ("bisector predict mo", ["model.ckpt"]),
    ("bisector export photos --format sa", ["safetensors"]),
    ("bisector measure --out ph", ["photos"]),
    ("bisector bench losses --dtype b", ["bfloat16"]),
    ("bisector completion f", ["fish"]),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which names can be completed."""
    for name in ("photos", "model.ckpt"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_bash_offers_commands_options_names_and_files(scripts: dict[str, Path], folder: Path) -> None:
    for line, expected in CASES:
        assert offered(scripts["bash"], folder, *line.split(" ")) == expected, line
    assert offered(scripts["bash"], folder, "bisector", "train", "--head", "") == list(HEAD_NAMES)


@pytest.mark.skipif(FISH is None, reason="no fish")
def test_fish_offers_commands_options_names_and_files(scripts: dict[str, Path], folder: Path) -> None:
    for line, expected in CASES:
        assert fished(scripts["fish"], folder, line) == expected, line
    assert sorted(fished(scripts["fish"], folder, "bisector train --head ")) == sorted(HEAD_NAMES)
    assert "Every option" not in scripts["fish"].read_text()  # the first line of what a command does


@pytest.mark.skipif(ZSH is None, reason="no zsh")
@pytest.mark.parametrize("way", ["fpath", "source", "eval"])
def test_zsh_completes_commands_options_names_and_files(
    scripts: dict[str, Path], folder: Path, way: str
) -> None:
    script, functions = scripts["zsh"], folder / "functions"
    functions.mkdir()
    (functions / "_bisector").write_text(script.read_text())
    setup = {
        "fpath": [f"fpath=({functions} $fpath)", "compinit -u -D"],
        "source": [f"source {script}"],
        "eval": [f'eval "$(cat {script})"'],
    }
    terminal = Terminal(folder, setup[way])
    try:
        assert "_arguments" not in terminal.setup  # where it complains of
        for line, expected in CASES:
            whole = " ".join([*line.split(" ")[:-1], *(expected or line.split(" ")[-1:])])
            assert terminal.completed(line).rstrip(" /") == whole, line
    finally:
        terminal.close()


def test_every_option_of_every_command_is_in_every_script(scripts: dict[str, Path]) -> None:
    def options(parser: argparse.ArgumentParser) -> set[str]:
        found: set[str] = set()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found |= set().union(*(options(inner) for inner in action.choices.values()))
            elif action.help != argparse.SUPPRESS:
                found |= {flag for flag in action.option_strings if flag.startswith("--")}
        return found

    wanted = options(command_parser()) | {"--precision", "--help-trainer"}  # the latter two of train
    for shell, script in scripts.items():
        text = script.read_text()
        form = "-l {} " if shell == "fish" else "{}"
        names = {flag: flag.removeprefix("--") if shell == "fish" else flag for flag in wanted}
        assert [flag for flag, name in names.items() if form.format(name) not in text] == [], shell
