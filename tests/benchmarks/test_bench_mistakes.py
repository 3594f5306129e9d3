"""What cannot be measured is said in one line, by every script of the benchmarks."""

from importlib import import_module

import pytest

MISTAKES = [
    ("adjusting --rows 9", "--rows: got 9"),
    ("adjusting --methods ,", "--methods: got ','"),
    ("adjusting --scoring --repeats 0", "--repeats: got 0"),
    ("amounts --dims 4,five", "--dims: got 'five'"),
    ("amounts --dims=", "--dims: got ''"),
    ("amounts --dims 0", "--dims: got 0"),
    ("amounts --classes 0", "classes: got 0"),
    ("amounts --least 1", "least: got 1"),
    ("amounts --most 19", "most: got 19"),
    ("amounts --repeats 0", "--repeats: got 0"),
    ("detector --size 800", "--size: got '800'"),
    ("detector --machinery 0x4", "--machinery: got '0x4'"),
    ("detector --machinery 2x8", "--machinery: got 2x8"),
    ("detector --rows 5", "--rows: got 5"),
    ("detector --repeats 0", "--repeats: got 0"),
    ("detector --classes 2", "--classes: got 2"),
    ("detector --model yolo --size 64x96 --images 1 --threads 1", "yolo"),
    ("guide --data digits --head igm", "did you mean 'igam'?"),
    ("guide --data digits --steps 0", "--steps: got 0"),
    ("guide --data digits --repeats 0", "--repeats: got 0"),
    ("guide --data digits --embedding-dim 1", "embedding_dim: got 1"),
    ("guide --data digit", "did you mean 'digits'?"),
    ("meter --rows 39 --classes 40", "rows: got 39; expected an integer of at least 40"),
    ("meter --dim 0", "--dim: got 0"),
    ("meter --checked 0", "--checked: got 0"),
    ("meter --memory-budget much", "--memory-budget: got 'much'"),
    ("meter --shrinkages oaz", "did you mean 'oas'?"),
    ("meter --shrinkages ,", "--shrinkages: got ','"),
    ("meter --threads 0", "--threads: got 0"),
]


@pytest.mark.parametrize(("words", "told"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_a_mistake_is_one_line(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    script, *options = words.split()
    assert import_module(f"benchmarks.{script}").main(options) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert told in said
