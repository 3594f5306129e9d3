import shlex
import subprocess
from argparse import ArgumentParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bisector.cli import embed
from bisector.measurement.command import command_line, quoted

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@given(WORDS, WORDS, WORDS, st.lists(st.floats(-9, 9), min_size=1, max_size=3), st.integers(0, 2**62))
def test_a_shell_and_argparse_read_every_value_as_the_value_it_is(
    model: str, data: str, output: str, mean: list[float], seed: int
) -> None:
    options = {
        "embedding_output": output,
        "mean": mean,
        "seed": seed,
        "image_size": None,
        "pretrained": False,
    }
    words = shlex.split(command_line("bisector embed", model, data, options=options))
    parser = ArgumentParser()
    embed.add_arguments(parser)
    read = parser.parse_args(words[2:])
    assert [read.model.removeprefix("./"), read.data.removeprefix("./")] == [
        word.removeprefix("./") for word in (model, data)
    ]
    assert (read.embedding_output, read.mean, read.seed) == (output, mean, seed)
    assert (read.image_size, read.pretrained) == (None, False)


@pytest.mark.parametrize(
    "word", ["--out x; touch PWNED #", "$(touch PWNED)", "a\n`touch PWNED`", "'; touch PWNED; '"]
)
def test_no_value_is_executed(word: str, tmp_path: Path) -> None:
    line = command_line("printf '%s|'", word, options={"weights": word})
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split("|")[0].removeprefix("./") == word
    assert list(tmp_path.iterdir()) == []
    assert shlex.split(quoted(word)) == [f"./{word}" if word.startswith("-") else word]
