import re
from pathlib import Path

import pytest

from bisector.cli.demo import HEADS

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Lightning leaves its checkpoints here
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(block, names)
    assert names["trainer"].current_epoch == 2  # type: ignore[attr-defined]


def test_the_table_has_every_head_of_the_demo() -> None:
    rows = re.findall(r"^\| .* ± .*\|$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(rows) == len(HEADS)
