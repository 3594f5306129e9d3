"""Train several heads on the same data by the same recipe, several times, and say what came out."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from bisector._version import __version__
from bisector.cores import require_tasks
from bisector.data.dataset import Dataset
from bisector.data.fingerprint import fingerprint
from bisector.errors import require
from bisector.heads import build_head, require_baseline
from bisector.networks.backbones import build_backbone
from bisector.networks.names import chosen_backbone
from bisector.posthoc import BaseAdjustment
from bisector.training.cells import Cell, require_heads
from bisector.training.class_weights import weights_of_classes
from bisector.training.classification import Classification, is_decided
from bisector.training.data import augmentation_of, load_task, settled
from bisector.training.decision import FILES, reason_against, require_decision, store_decision
from bisector.training.evaluate import embed
from bisector.training.experiment import Experiment
from bisector.training.module import Classifier
from bisector.training.precision import slow_precision
from bisector.training.processes import Order, Progress, default_jobs, run_cells
from bisector.training.recipe import DECIDE, Machine, Recipe, Task
from bisector.training.results import RESULT, Comparison, Plane, Run, read_result

# How many times as long a two-dimensional embedding is trained: ten classes find their places on a circle slowly.
PLANE_EPOCHS = 3


@dataclass(frozen=True)
class ClassifierCell(Cell[Classifier, Any]):
    """One training of a comparison of classifiers."""

    task: Task
    recipe: Recipe
    plane: bool = False  # whether it is trained with a two-dimensional embedding, to be drawn
    decide: str = "none"  # how classes are chosen in the end

    weights = (*Cell.weights, *FILES)

    @property
    def epochs(self) -> int:
        """How many epochs it is trained for."""
        return self.recipe.epochs * (PLANE_EPOCHS if self.plane else 1)

    def experiment(self, machine: Machine, cells: Path | None = None) -> Experiment[Classifier, Run]:
        """Return the training, its data loaded."""
        planar: dict[str, Any] = {"embedding_dim": 2, "epochs": self.epochs} if self.plane else {}
        return Classification(
            dataset=_load(self.task, self.seed, self.recipe, self.fingerprint, cells),
            task=self.task,
            head=self.head,
            recipe=replace(self.recipe, **planar),
            seed=self.seed,
            machine=machine,
            decide=self.decide,
        )

    def done(self, cells: Path | None, *, keep: bool = False) -> Run | Plane | None:
        """Return the result, if it is there with the decision that is asked for; without one if none is."""
        found: Run | Plane | None = super().done(cells, keep=keep)
        if not isinstance(found, Run) or cells is None:
            return found
        if self.decide == "none":
            return replace(found, decided=None)
        return found if is_decided(found, self.decide, cells / self.key if keep else None) else None

    def keep_beside(self, folder: Path, beside: BaseAdjustment | None) -> None:
        """Write the decision."""
        store_decision(folder, beside)

    def read(self, folder: Path) -> Run | Plane:
        """Read what the training left in its folder."""
        kind: type[Run | Plane] = Plane if self.plane else Run
        return read_result(kind, folder / RESULT)

    def record(self, experiment: Any, model: Classifier, result: Run) -> Run | Plane:
        """Return what is kept of the training."""
        return _plane(model, experiment.dataset, self.head) if self.plane else result

    def _kind(self) -> str:
        return "-plane" if self.plane else ""


def plan(
    task: Task,
    heads: Sequence[str],
    *,
    seeds: int = 3,
    planes: Sequence[str] = (),
    recipe: Recipe | None = None,
    machine: Machine | None = None,
    decide: str = DECIDE,
    decoded: Path | None = None,
) -> tuple[list[ClassifierCell], Dataset]:
    """Check everything and return the cells of a comparison, seed by seed, with the data of seed 0.

    Raises:
        ArgumentError: a name, an option or a number is not legal.
    """
    recipe, machine = recipe or Recipe(), machine or Machine()
    require(bool(heads), "heads", "none", "at least one head")
    require_decision(decide)
    require_heads(heads, seeds, machine)
    require_heads(planes, seeds, machine, "planes")
    task, _ = settled(task, recipe)
    first = load_task(task, 0, recipe, decoded)
    augmentation_of(first, recipe.augment)  # refuses a word that names none
    dim = build_backbone(recipe.backbone, first.shape, recipe.embedding_dim).embedding_dim
    weight = weights_of_classes(recipe.class_weights, first.class_names, first.train_counts)
    for spec in (*heads, *planes):
        head = build_head(spec, dim, first.num_classes, first.train_counts, weight=weight)
        drawn = spec not in planes or head.sub_centers == 1
        require(drawn, "planes", repr(spec), "heads with one vector a class")
    require(not (planes and first.open_set), "planes", ",".join(planes), "none, with the open-set split")
    cell = partial(
        ClassifierCell,
        task,
        recipe=recipe,
        precision=machine.precision,
        fingerprint=fingerprint(task.data, first),
    )
    cells = [cell(head=spec, seed=seed, decide=decide) for seed in range(seeds) for spec in heads]
    return cells + [cell(head=spec, seed=0, plane=True) for spec in planes], first


def compare(
    task: Task,
    heads: Sequence[str],
    *,
    seeds: int = 3,
    planes: Sequence[str] = (),
    recipe: Recipe | None = None,
    machine: Machine | None = None,
    jobs: int | None = None,
    folder: Path | None = None,
    keep: bool = False,
    decide: str = DECIDE,
    baseline: str = "",
    command: str = "",
    progress: Progress = lambda what, epochs: None,
    tell: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Train every head with every seed and return what came out.

    Within one seed all heads get the same split, the same long tail, the same first weights of the backbone, the
    same order of batches and the same augmentation: they differ in the head alone.

    With a folder, each training is kept there when it is done; a comparison that was killed and is started again
    goes on where it was, a training in its middle too, and one with more heads or seeds trains only those.

    Args:
        task: the data.
        heads: specs such as "am-softmax" or "igam:preset=paper".
        seeds: how many; they are 0, 1, ...
        planes: heads to train once more with a two-dimensional embedding, for drawing.
        recipe: how to train; the default one if None.
        machine: with which means.
        jobs: trainings at a time; as many as the machine has room for if None.
        folder: where the trainings are kept.
        keep: whether their checkpoints stay, for `bisector embed`.
        decide: how classes are chosen in the end, one of `DECISIONS`: each head then has a second run, with the
            decision. It is made after training: a training that was kept is not trained again for it.
        baseline: the head from which differences are taken; the first if empty.
        command: what the user typed, for the record.
        progress: told after every epoch.
        tell: is given a line about everything that was chosen in reading the data, before anything is trained.

    Raises:
        ArgumentError: a name, an option or a number is not legal; told before anything is trained.
    """
    recipe, machine = recipe or Recipe(), machine or Machine()
    decoded = _decoded_in(folder)
    how = {"seeds": seeds, "planes": planes, "recipe": recipe, "machine": machine, "decide": decide}
    cells, first = plan(task, heads, **how, decoded=decoded)  # type: ignore[arg-type]
    require_baseline(baseline, heads)
    jobs = default_jobs(machine) if jobs is None else require_tasks("jobs", jobs)
    undecided = reason_against(first) if decide != "none" else ""
    for line in filter(None, [settled(task, recipe)[1], *first.notes, undecided, slow_precision(machine)]):
        tell(line)
    ordered = run_cells(cells, Order(folder, machine, keep), jobs, progress)
    if decoded is not None:
        shutil.rmtree(decoded, ignore_errors=True)
    more = {"seeds": seeds, **({"plane_epochs": PLANE_EPOCHS * recipe.epochs} if planes else {})}
    found = comparison_of(
        first,
        task,
        {**recipe_of(first, task, recipe, machine, decide), **more},
        [result for result in ordered if isinstance(result, Run)],
        command,
    )
    models = {
        result.rows()[-1].head: f"{folder.name}/{cell.key}"  # the decision in the folder is followed
        for cell, result in zip(cells, ordered, strict=True)
        if keep and folder is not None and cell.seed == 0 and isinstance(result, Run)
    }
    planes_found = [result for result in ordered if isinstance(result, Plane)]
    return replace(found, planes=planes_found, baseline=baseline, models=models)


def recipe_of(dataset: Dataset, task: Task, recipe: Recipe, machine: Machine, decide: str) -> dict[str, Any]:
    """Return how networks were trained, as a page shows it."""
    return {
        **asdict(recipe),
        "backbone": chosen_backbone(recipe.backbone, dataset.shape),
        "augment": augmentation_of(dataset, recipe.augment),
        "split": task.split,
        "precision": machine.precision,
        "amounts": "of the training embeddings at unit length times sqrt(D), quadratic-inverse shrinkage",
        **({"decision": decide} if decide != "none" else {}),
    }


def comparison_of(
    dataset: Dataset, task: Task, recipe: dict[str, Any], results: Sequence[Run], command: str
) -> Comparison:
    """Return what a page is made of: of many trainings, or of one."""
    # Those that the accuracies are of: unseen classes have none.
    tested = dataset.validation_counts if dataset.open_set else dataset.test_counts
    return Comparison(
        command=command,
        version=__version__,
        data=task.data,
        imbalance=task.imbalance,
        class_names=list(dataset.class_names),
        train_counts=dataset.train_counts.tolist(),
        test_counts=tested.tolist(),
        recipe=recipe,
        runs=[run for result in results for run in result.rows()],
        left_out=list(dataset.left_out),
    )


@lru_cache(maxsize=1)  # cells come seed by seed, and all heads of a seed have the same data
def _load(task: Task, seed: int, recipe: Recipe, fingerprint: str, cells: Path | None) -> Dataset:
    return load_task(task, seed, recipe, _decoded_in(cells))


def _decoded_in(cells: Path | None) -> Path | None:
    """Return the folder in which a comparison keeps decoded images while it lasts."""
    return None if cells is None else cells / ".decoded"


def _plane(model: Classifier, dataset: Dataset, spec: str) -> Plane:
    head = model.head
    points, predictions, _ = embed(model, dataset.test)
    # Without a bias, the regions of inner products are still no arcs: the lengths of the vectors count.
    flat = torch.zeros(head.num_classes) if head.score == "dot" else None
    bias = flat if head.bias is None else head.bias.detach()
    return Plane(
        head=spec,
        points=points.tolist(),
        labels=dataset.test.labels.tolist(),
        weights=head.weight.tolist(),
        accuracy=float((predictions == dataset.test.labels).float().mean()),
        bias=None if bias is None else bias.tolist(),
    )
