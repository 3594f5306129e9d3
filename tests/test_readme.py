import re
from pathlib import Path

import pytest

from bisector.cli.demo import HEADS

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.slow
def test_the_examples_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Lightning leaves its checkpoints here
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 7
    for block in blocks:
        exec(block, names)
    assert names["trainer"].current_epoch == 2  # type: ignore[attr-defined]


def test_the_table_has_every_head_of_the_demo() -> None:
    rows = re.findall(r"^\| .* ± .*\|$", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(rows) == len(HEADS)


@pytest.mark.slow
def test_the_detector_of_the_documentation_runs() -> None:
    text = (README.parent / "docs" / "detection.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert block is not None
    names: dict[str, object] = {}
    exec(block[1], names)
    assert set(names["losses"]) >= {"loss_classifier", "loss_box_reg"}  # type: ignore[call-overload]
