"""`bisector completion`: the script in a real bash, asked as bash asks on TAB."""

import argparse
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from bisector.cli.completion import SHELLS
from bisector.cli.main import command_parser, main
from bisector.heads import HEAD_NAMES

BASH = shutil.which("bash")


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


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_bash_offers_commands_options_names_and_files(scripts: dict[str, Path], tmp_path: Path) -> None:
    for name in ("photos", "model.ckpt"):
        (tmp_path / name).mkdir()
    cases: list[tuple[str, list[str]]] = [
        ("bisector tr", ["train"]),
        ("bisector detect ev", ["evaluate"]),
        ("bisector compare --seeds", ["--seeds"]),
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
    for line, expected in cases:
        found = offered(scripts["bash"], tmp_path, *line.split(" "))
        assert found == expected, line
    assert offered(scripts["bash"], tmp_path, "bisector", "train", "--head", "") == list(HEAD_NAMES)


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


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(shell: str, scripts: dict[str, Path]) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell}")
    subprocess.run([program, "-n", str(scripts[shell])], check=True)
