"""What should be done to the scores of a trained classifier, and on which data? Trainings, decisions, a summary.

```console
$ python -m benchmarks.decisions train --folder stores --data digits --seeds 10,11
$ python -m benchmarks.decisions decide --folder stores
$ python -m benchmarks.decisions summary
```

`train` leaves, for each data set, head and seed, a table that `bisector adjust` reads; what is there is not made
again, and several may run side by side. `decide` adds what is new to a table of results, and `summary` reads that.
"""

import argparse
import csv
import fcntl
import io
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.decision_rules import DECISIONS, EXPLORED, METRICS, measured, read_store
from benchmarks.script import listed
from benchmarks.tables import Table
from bisector.cli.output import say
from bisector.cli.program import Parser, exit_code
from bisector.cores import require_tasks
from bisector.data.dataset import Dataset
from bisector.embedding.embed import embed
from bisector.embedding.trained import TrainedModel
from bisector.errors import ArgumentError, require, require_choice, require_integer
from bisector.files import write_whole
from bisector.records import write_record
from bisector.statistics.paired import paired_difference
from bisector.training.checkpoints import remove_damaged
from bisector.training.classification import Classification
from bisector.training.data import load_task
from bisector.training.recipe import Machine, Recipe, Task
from bisector.training.results import RESULT

HEADS = ("linear-softmax", "logit-adjusted", "normalized-softmax:tau=1")
LOGIT_ADJUSTED, COSINE = HEADS[1:]
RESULTS = Path(__file__).parent / "results/decisions.csv"
CONFIRMING = 10  # the least seed of what is summarised; those below chose what is done

KEY = ("data", "head", "seed", "validation", "decision")
NUMBERS = ("a", "b", "e", "t", "r", "gain", "error", "tau", "penalty")
COLUMNS = ("data", "classes", "imbalance", *KEY[1:], *METRICS, *NUMBERS)

Row = dict[str, str]


@dataclass(frozen=True)
class Case:
    """One data set and how a network is trained on it."""

    data: str  # the word after --data
    imbalance: float = 1.0
    recipe: Mapping[str, Any] = field(default_factory=dict)  # what is not the default of `bisector train`
    precision: str = "32-true"

    def options(self) -> list[str]:
        """Return the options of `bisector train`."""
        given = {"data": self.data, "imbalance": self.imbalance, **self.recipe}
        if self.precision != "32-true":
            given["precision"] = self.precision
        return [
            word
            for name, value in given.items()
            for word in (f"--{name.replace('_', '-')}", "null" if value is None else f"{value}")
        ]


_HERE = "benchmarks/decision_data.py"
_SMALL = {"batch_size": 128, "embedding_dim": 64}
_EPOCHS = {1: 3, 10: 5, 100: 8}  # by imbalance: a network sees some 100,000 to 150,000 images
_VECTORS = {"backbone": "identity", "embedding_dim": None, "epochs": 20, "batch_size": 128}
_STRONG = {
    "backbone": "resnet20",
    "embedding_dim": 64,
    "epochs": 40,
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "schedule": "cosine",
}

CASES: Mapping[str, Case] = {
    "digits@20": Case("digits", 20),
    **{
        f"{data}@{imbalance}": Case(data, imbalance, {**_SMALL, "epochs": epochs})
        for data in ("fashion-mnist", "cifar10")
        for imbalance, epochs in _EPOCHS.items()
    },
    "cifar10-strong": Case("cifar10", 100, _STRONG, "bf16-mixed"),
    "cifar10-stronger": Case("cifar10", 100, {**_STRONG, "epochs": 120}, "bf16-mixed"),
    "kanji": Case(f"{_HERE}:set=kanji", 15, {"embedding_dim": 64}),
    "debian": Case(f"{_HERE}:set=debian", 1, _VECTORS),
    "elite0": Case(f"{_HERE}:set=elite0", 100, _VECTORS),
    "quick": Case("digits", 20, {"epochs": 2}),
}
"""The data sets by name; "quick" shows that all works, and nothing else."""


@dataclass(frozen=True)
class Cell:
    """One training, and the table that is made of it."""

    name: str  # of its case
    head: str
    seed: int
    folder: Path  # of all
    precision: str = ""  # that of the case if empty

    @property
    def store(self) -> Path:
        """The table."""
        words = re.sub(r"[^\w.=-]+", "-", self.head)
        return self.folder / self.name / f"{words}-seed{self.seed}.parquet"

    @property
    def case(self) -> Case:
        """Its data set."""
        return CASES[self.name]

    def commands(self) -> list[str]:
        """Return the commands that leave the same table."""
        out = self.store.with_suffix("")
        how = ["--head", self.head, "--seed", f"{self.seed}", "--no-tensorboard", "--out", f"{out}"]
        precise = ["--precision", self.precision] if self.precision else []
        train = ["bisector", "train", *self.case.options(), *precise, *how]
        return [shlex.join(train), shlex.join(["bisector", "embed", f"{out}", "--out", f"{self.store}"])]

    def make(self) -> None:
        """Train, or go on with it, and leave the table."""
        case, out = self.case, self.store.with_suffix("")
        precision = self.precision or case.precision
        data = Path(__file__).parents[1] / case.data if case.data.startswith(_HERE) else case.data
        task, recipe = Task(f"{data}", case.imbalance), Recipe(**case.recipe)
        dataset = _load(task, self.seed, recipe, self.folder / ".decoded")
        experiment = Classification(
            dataset=dataset,
            task=task,
            head=self.head,
            recipe=recipe,
            seed=self.seed,
            machine=Machine(precision=precision),
        )
        remove_damaged(out)
        if not experiment.is_finished(out, {}):
            _, result, _ = experiment.run(out)
            write_record(result, out / RESULT)
        settings = {"imbalance": task.imbalance, "seed": self.seed, "split": task.split}
        embed(TrainedModel(out, torch.device("cpu")), dataset, self.store, settings=settings)


@lru_cache(maxsize=1)  # the heads of a seed come one after another
def _load(task: Task, seed: int, recipe: Recipe, decoded: Path) -> Dataset:
    return load_task(task, seed, recipe, decoded)


def main(words: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    words = sys.argv[1:] if words is None else words
    parser = Parser(prog="python -m benchmarks.decisions", description=(__doc__ or "").splitlines()[0])
    stages = parser.add_subparsers(dest="stage", metavar="STAGE", required=True)
    train = stages.add_parser("train", help="train networks and store what they make of their data")
    train.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    train.add_argument(
        "--precision", default="", help="instead of that of the case: bf16 is slow where a processor lacks it"
    )
    train.add_argument(
        "--print-commands", action="store_true", help="print what makes the same tables, and end"
    )
    decide = stages.add_parser("decide", help="fit every decision on every table that is there")
    decide.add_argument(
        "--validation", type=int, help="use so many validation rows of a class at most (default: all)"
    )
    decide.add_argument("--explore", action="store_true", help="with further values of kappa")
    summary = stages.add_parser("summary", help="print the table of differences")
    for stage in (train, decide):
        stage.add_argument("--folder", type=Path, required=True, help="of the stored tables")
        stage.add_argument("--seeds", default="10,11,12", help="commas between (default: %(default)s)")
        stage.add_argument("--heads", default=",".join(HEADS), help="commas between (default: %(default)s)")
    decide.set_defaults(seeds=None)
    summary.add_argument("--validation", type=int, help="the most validation rows of a class (default: all)")
    summary.add_argument("--metric", default=METRICS[0], help="(default: %(default)s)")
    summary.add_argument("--exploratory", action="store_true", help="of the seeds below 10 instead")
    summary.add_argument("--markdown", action="store_true", help="print Markdown")
    for stage in (train, decide, summary):
        stage.add_argument("--data", default=",".join(CASES), help="commas between (default: all)")
    for stage in (decide, summary):
        stage.add_argument("--decisions", help="commas between (default: all)")
        stage.add_argument(
            "--results", type=Path, default=RESULTS, help="CSV (default: that of the repository)"
        )
    arguments = parser.parse_args(words)
    run = {"train": _train, "decide": _decide, "summary": _summary}[arguments.stage]
    return exit_code(parser.prog, lambda: run(arguments, words))


def _cells(arguments: argparse.Namespace) -> list[Cell]:
    """Return the cells that are asked for, seed by seed."""
    heads, data = listed(arguments.heads, "--heads"), _cases(arguments)
    for head in heads:
        require_choice("--heads", head, HEADS)
    return [
        Cell(name, head, seed, arguments.folder, getattr(arguments, "precision", ""))
        for name in data
        for seed in _seeds(arguments)
        for head in heads
    ]


def _cases(arguments: argparse.Namespace) -> list[str]:
    names = listed(arguments.data, "--data")
    for name in names:
        require_choice("--data", name, CASES)
    return names


def _seeds(arguments: argparse.Namespace) -> list[int]:
    if arguments.seeds is None:
        return list(range(100))
    words = listed(arguments.seeds, "--seeds")
    for word in words:
        require(word.isdecimal(), "--seeds", repr(word), "integers from 0, commas between")
    return [int(word) for word in words]


def _train(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    cells = _cells(arguments)
    if arguments.print_commands:
        for cell in cells:
            say("\n".join(cell.commands()))
        return
    require_tasks("--jobs", arguments.jobs)
    alone = [sys.executable, "-m", "benchmarks.decisions", *words, "--jobs", "1"]
    others = [subprocess.Popen(alone) for _ in range(arguments.jobs - 1)]
    failed = []
    for cell in cells:
        cell.store.parent.mkdir(parents=True, exist_ok=True)
        with _held(cell.store.with_suffix(".lock")) as free:
            if not free or cell.store.exists():
                continue
            begun = time.monotonic()
            try:
                cell.make()
            except (ArgumentError, ArithmeticError) as error:  # the others may still be made
                failed.append(f"{cell.store.stem} of {cell.name}: {error}")
                print(failed[-1], file=sys.stderr, flush=True)
            else:
                print(f"{cell.store}: {time.monotonic() - begun:.0f} s", flush=True)
    codes = [other.wait() for other in others]
    require(not failed and not any(codes), "train", "; ".join(failed) or "a process that failed", "none")


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a file's lock, if no other process does; the system lets go of it when a process is killed."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _decide(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    if arguments.validation is not None:
        require_integer("--validation", arguments.validation, least=2)
    rules = {**DECISIONS, **(EXPLORED if arguments.explore else {})}
    names = list(rules) if arguments.decisions is None else listed(arguments.decisions, "--decisions")
    for name in names:
        require_choice("--decisions", name, rules)
    found = read_results(arguments.results)
    limit = _limit(arguments)
    for cell in _cells(arguments):
        if not cell.store.exists():
            continue
        key = (cell.name, cell.head, f"{cell.seed}", limit)
        missing = [name for name in names if (*key, name) not in found]
        if not missing:
            continue
        begun = time.monotonic()
        store = read_store(cell.store, validation=arguments.validation)
        for name in missing:
            decided = rules[name](store)
            told = {name: f"{value:.6g}" for name, value in decided.numbers.items()}
            told |= {
                name: f"{value:.4f}" if name == "log_loss" else f"{value:.2f}"
                for name, value in measured(store, decided).items()
            }
            of_data = {"classes": f"{store.classes}", "imbalance": f"{cell.case.imbalance:g}"}
            row = {**dict(zip(KEY, (*key, name), strict=True)), **of_data, **told}
            add_results({(*key, name): row}, arguments.results)
        print(f"{cell.store}: {len(missing)} decisions, {time.monotonic() - begun:.0f} s", flush=True)


def _limit(arguments: argparse.Namespace) -> str:
    return "all" if arguments.validation is None else f"{arguments.validation}"


def read_results(path: Path) -> dict[tuple[str, ...], Row]:
    """Return the rows of a table of results by their `KEY`; none where there is no file."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {tuple(row[name] for name in KEY): row for row in csv.DictReader(file)}


def add_results(rows: Mapping[tuple[str, ...], Row], path: Path) -> None:
    """Add rows, in an order that does not depend on when they were made; others may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _write_results({**read_results(path), **rows}, path)
    finally:
        os.close(folder)


def _write_results(found: Mapping[tuple[str, ...], Row], path: Path) -> None:
    decisions = [*DECISIONS, *EXPLORED]

    def place(key: tuple[str, ...]) -> tuple[Any, ...]:
        data, head, seed, validation, decision = key
        return list(CASES).index(data), HEADS.index(head), int(seed), validation, decisions.index(decision)

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found[key] for key in sorted(found, key=place))
    write_whole(path, text.getvalue())


def _summary(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    require_choice("--metric", arguments.metric, METRICS)
    require(arguments.results.is_file(), "--results", f"{arguments.results}", "what `decide` wrote")
    found = read_results(arguments.results)
    names = list(DECISIONS) if arguments.decisions is None else listed(arguments.decisions, "--decisions")
    for name in names:
        require_choice("--decisions", name, {**DECISIONS, **EXPLORED})
    for table in summary_tables(
        found,
        _cases(arguments),
        names,
        metric=arguments.metric,
        limit=_limit(arguments),
        chosen=lambda seed: (seed < CONFIRMING) == arguments.exploratory,
    ):
        say(f"{table.markdown() if arguments.markdown else table.text()}\n")


def summary_tables(
    found: Mapping[tuple[str, ...], Row],
    data: Sequence[str],
    decisions: Sequence[str],
    *,
    metric: str = METRICS[0],
    limit: str = "all",
    chosen: Callable[[int], bool] = lambda seed: True,
) -> list[Table]:
    """Return the means of the untouched scores, and of each head the differences that decisions make, by seed.

    Differences are from the same head's untouched scores, and from those of the cosine head trained with the prior.
    """

    def values(name: str, head: str, decision: str) -> dict[int, float]:
        return {
            int(row["seed"]): float(row[metric])
            for row in found.values()
            if (row["data"], row["head"], row["validation"], row["decision"]) == (name, head, limit, decision)
            and chosen(int(row["seed"]))
        }

    present = [name for name in data if any(values(name, head, "identity") for head in HEADS)]
    means = [[name, *(_mean(values(name, head, "identity")) for head in HEADS)] for name in present]
    tables = [Table(f"{metric}, scores as they are", ["data", *HEADS], means)]
    for title, head, other in (
        (f"{LOGIT_ADJUSTED}: decision less identity", LOGIT_ADJUSTED, LOGIT_ADJUSTED),
        (f"{LOGIT_ADJUSTED}: decision less {COSINE}", LOGIT_ADJUSTED, COSINE),
        (f"{COSINE}: decision less identity", COSINE, COSINE),
        (f"{HEADS[0]}: decision less {LOGIT_ADJUSTED}", HEADS[0], LOGIT_ADJUSTED),
    ):
        rows = []
        for decision in decisions:
            cells = [
                _difference(values(name, head, decision), values(name, other, "identity")) for name in present
            ]
            if any(cells):
                rows.append([decision, *cells])
        tables.append(Table(f"{metric}, {title}", ["decision", *present], rows))
    return tables


def _mean(values: Mapping[int, float]) -> str:
    return f"{sum(values.values()) / len(values):.2f} ({len(values)})" if values else ""


def _difference(values: Mapping[int, float], others: Mapping[int, float]) -> str:
    seeds = sorted(values.keys() & others.keys())
    if not seeds:
        return ""
    ours, theirs = (
        torch.tensor([of[seed] for seed in seeds], dtype=torch.float64) for of in (values, others)
    )
    found = paired_difference(ours, theirs)
    interval = "" if math.isnan(found.low) else f" [{found.low:+.2f}, {found.high:+.2f}]"
    return f"{found.mean:+.2f}{interval}"


if __name__ == "__main__":
    sys.exit(main())
