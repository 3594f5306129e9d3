import re
import subprocess
import sys
from pathlib import Path

import pytest

SCALE = Path(__file__).parents[1] / "docs" / "scale.md"


@pytest.mark.slow
def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", SCALE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "train.py").write_text(script, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "train.py",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"rank (\d): loss (\S+), (\d+) of (\d+) classes", done.stdout)
    assert {line[0] for line in shown} == {"0", "1"}
    assert len({line[1] for line in shown}) == 1
    assert sorted(int(line[2]) for line in shown) == [50001, 50002]
    assert (tmp_path / "checkpoint" / ".metadata").exists()
