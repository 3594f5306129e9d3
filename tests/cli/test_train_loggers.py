"""`bisector train` with a logger of Lightning's choice of the user."""

import csv
from pathlib import Path

import pytest

from real_processes import bisector

CONFIG = """
data: digits
head: arcface
epochs: 2
accelerator: cpu
trainer:
  log_every_n_steps: 4
  logger:
    class_path: lightning.pytorch.loggers.CSVLogger
    init_args: {save_dir: logs, name: mine, version: first}
"""


@pytest.mark.slow
def test_a_logger_of_the_users_choice_gets_what_is_logged_beside_tensorboard(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text(CONFIG, encoding="utf-8")
    done = bisector("train", "--config", "train.yaml", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "logs" / "mine" / "first" / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    accuracies = [float(row["val/balanced_accuracy"]) for row in rows if row["val/balanced_accuracy"]]
    assert len(losses) >= 4
    assert losses[-1] < losses[0]
    with (tmp_path / "run" / "metrics.csv").open(encoding="utf-8") as file:
        ours = [float(row["val/balanced_accuracy"]) for row in csv.DictReader(file)]
    assert accuracies == pytest.approx(ours)
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))
