"""Meters of real processes beside one meter that saw everything, and beside numpy."""

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed import checkpoint

import bisector as bs
from bisector.errors import ArgumentError
from bisector.information import distributed as merging
from bisector.information.amount import information_amounts
from bisector.information.class_information import ClassInformation
from bisector.information.distributed import compute_together, merge_onto_first
from bisector.information.meter import InformationMeter
from bisector.training import InformationGuide
from real_processes import in_processes

C, D, EPOCHS, FORGETTING = 7, 5, 3, 0.5
OPTIONS = [("none", "raw"), ("oas", "unit"), ("quadratic-inverse", "raw")]
SHARES = {1: [1.0], 2: [0.7, 0.3], 3: [0.6, 0.0, 0.4]}  # rank 1 of 3 has no row at all
READINGS = ("amount", "count", "effective_rank", "drift", "error_bound", "error_estimate")


def epoch_rows(epoch: int) -> tuple[Tensor, Tensor]:
    """Classes of 40, 25, 3, 2 and 1 rows, one of 30 that the last epoch lacks, and one that never comes."""
    draw = torch.Generator().manual_seed(epoch)
    sizes = torch.tensor([40, 25, 3, 2, 1, 0 if epoch == EPOCHS - 1 else 30, 0])
    labels = torch.arange(C).repeat_interleave(sizes)
    labels = labels[torch.randperm(len(labels), generator=draw)]
    rows = torch.randn(len(labels), D, generator=draw, dtype=torch.float64)
    return rows * (1 + labels[:, None]) + labels[:, None] + 0.3 * epoch, labels


def share(rank: int, world: int, epoch: int) -> tuple[Tensor, Tensor]:
    rows, labels = epoch_rows(epoch)
    ends = [round(len(labels) * part) for part in np.cumsum([0.0, *SHARES[world]])]
    here = slice(ends[rank], ends[rank + 1])
    return rows[here], labels[here]


def meter_of(option: tuple[str, str], **options: Any) -> InformationMeter:
    return InformationMeter(C, D, shrinkage=option[0], embeddings=option[1], forgetting=FORGETTING, **options)


def measured(rank: int, world: int) -> list[list[ClassInformation]]:
    """For each option, what is known at the end of each epoch."""
    found = []
    for option in OPTIONS:
        meter, infos = meter_of(option), []
        for epoch in range(EPOCHS):
            rows, labels = share(rank, world, epoch)
            for part, their_labels in zip(rows.split(9), labels.split(9), strict=True):
                meter.update(part, their_labels)
            before = meter.compute()
            infos.append(compute_together(meter) if world > 1 else before)
            after = meter.compute()  # what is here stays here
            assert all(
                torch.equal(getattr(before, name).nan_to_num(), getattr(after, name).nan_to_num())
                for name in READINGS
            )
            if world > 1:
                again = compute_together(meter)
                assert torch.equal(again.count, infos[-1].count)
            meter.forget()
        found.append(infos)
    return found


def refreshed(rank: int, world: int) -> list[tuple[Tensor, Tensor]]:
    """Amounts and margins of a head, epoch by epoch."""
    head = bs.IGAM(D, C, information={"forgetting": FORGETTING})
    found = []
    for epoch in range(EPOCHS):
        head.observe(*share(rank, world, epoch))
        head.refresh()
        found.append((head.amounts, head.guide.matrix()))
    return found


def in_small_rounds(rank: int, world: int) -> None:
    """However little is sent at a time, and whatever a process skipped."""
    meter = meter_of(OPTIONS[0])
    meter.update(*share(rank, world, 0))
    whole = compute_together(meter)
    first = merge_onto_first(meter)
    merging.ROUND_BYTES = 500
    for name in READINGS:
        expected = getattr(whole, name).nan_to_num(-1)
        assert torch.equal(getattr(compute_together(meter), name).nan_to_num(-1), expected)
        if first is not None:
            assert torch.equal(getattr(first.compute(), name).nan_to_num(-1), expected)
    joint = merge_onto_first(meter)
    assert (joint is None) == (rank > 0) == (first is None)
    if joint is not None:
        assert torch.equal(joint.counts, whole.count)
        assert joint.compute().skipped == whole.skipped == 0
    merging.ROUND_BYTES = 2**28


def in_a_group(rank: int, world: int) -> Tensor | None:
    """Two of three processes."""
    group = distributed.new_group([0, 2])
    if rank == 1:
        with pytest.raises(ArgumentError, match="group: got one that this process is not of"):
            compute_together(meter_of(OPTIONS[0]), group)
        return None
    meter = meter_of(OPTIONS[0])
    meter.update(*share(rank, world, 0))
    return compute_together(meter, group).amount


class Failing(InformationMeter):
    """One whose state cannot be had."""

    error: Exception = RuntimeError("no room")

    def state_dict(self, classes: Any = None) -> Any:
        raise self.error


def failures(rank: int, world: int) -> None:
    """All processes learn of what is wrong with one, and can go on."""
    for options, words in (
        ({"num_classes": C + rank}, r"num_classes 8 on rank 1 and 7 on rank 0"),
        ({"dim": D + rank}, r"dim 6 on rank 1 and 5 on rank 0"),
        ({"shrinkage": ("none", "oas")[rank]}, r"shrinkage 'oas' on rank 1 and 'none' on rank 0"),
        ({"embeddings": ("raw", "unit")[rank]}, r"embeddings 'unit' on rank 1 and 'raw' on rank 0"),
        ({"forgetting": 1 - rank / 4}, r"forgetting 0.75 on rank 1 and 1 on rank 0"),
        ({"memory_budget": (None, 2**20)[rank]}, r"memory_budget 1048576 on rank 1 and None on rank 0"),
    ):
        meter = InformationMeter(**{"num_classes": C, "dim": D, **options})
        for call in (compute_together, merge_onto_first):
            with pytest.raises(ArgumentError, match=words):
                call(meter)
    for error, kind in ((RuntimeError("no room"), RuntimeError), (ArgumentError("odd"), ArgumentError)):
        meter = (InformationMeter, Failing)[rank](C, D)
        Failing.error = error
        told = str(error) if rank == 1 else rf"{error} \(on rank 1\)"
        for call in (compute_together, merge_onto_first):
            with pytest.raises(kind, match=f"^{told}$"):
                call(meter)
    head = bs.IGAM(D, C + rank)
    with pytest.raises(ArgumentError, match="num_classes 8 on rank 1"):
        head.refresh()
    assert compute_together(InformationMeter(C, D)).count.sum() == 0


def within_a_budget(rank: int, world: int) -> tuple[ClassInformation, ClassInformation | None]:
    """Classes too large for the memory, which are sketched; one rank meets rows that are not finite."""
    meter = InformationMeter(
        3, 60, shrinkage="none", queue=8, memory_budget=25_000, not_finite=("refuse", "skip")[rank]
    )
    rows, labels = many_rows()
    if rank == 1:
        rows[201], rows[203] = torch.nan, torch.inf
        with pytest.warns(RuntimeWarning, match="2 embeddings with NaN or infinity skipped"):
            meter.update(rows[1::2], labels[1::2])
    else:
        meter.update(rows[::2], labels[::2])
    joint = merge_onto_first(meter)
    info = compute_together(meter)
    assert info.effective_rank.isfinite().all()
    assert compute_together(meter, ranks=False).count.tolist() == info.count.tolist()
    return info, joint and joint.compute()


def many_rows() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(5)
    rows = torch.randn(600, 60, generator=draw) * torch.logspace(1, -2, 60)
    return rows, torch.randint(3, (600,), generator=draw)


def nobody_saw_anything(rank: int, world: int) -> None:
    head = bs.IGAM(D, C)
    with pytest.warns(RuntimeWarning, match="no class was observed twice"):
        assert head.refresh().amount.isnan().all()
    fewer = InformationMeter(2, D)  # classes than processes
    assert compute_together(fewer).count.tolist() == [0, 0]
    fewer.update(torch.randn(3, D), torch.ones(3, dtype=torch.long))
    assert compute_together(fewer).count.tolist() == [0, 9]


def the_same_rows(rank: int, world: int, folder: Path) -> None:
    """Heads that all observe the same rows store them once, and all have them after a load."""
    model = nn.Sequential(nn.Identity(), bs.IGAM(D, C, together=False))
    model[1].observe(*epoch_rows(0))
    joint = model[1].joint_meter()
    assert joint is (None if rank else model[1].information)
    checkpoint.save({"training": bs.TrainingState(model)}, checkpoint_id=folder / "same")
    found = nn.Sequential(nn.Identity(), bs.IGAM(D, C, together=False))
    checkpoint.load({"training": bs.TrainingState(found)}, checkpoint_id=folder / "same")
    bs.shard_classes(found)
    module: Any = nn.Module()
    module.head, guide, trainer = found[1], InformationGuide(), cast(Any, None)
    guide.on_train_start(trainer, module)
    guide.on_train_end(trainer, module)
    expected = epoch_rows(0)[1].bincount(minlength=C).tolist()
    assert found[1].information.counts.tolist() == expected
    assert found[1].refresh().count.tolist() == expected


def compiled(rank: int, world: int, folder: Path) -> None:
    """The names of wrapped models are those of torch's state dicts, and nothing observed is lost."""
    for number, wrap in enumerate(WRAPPERS):
        model = nn.Sequential(nn.Linear(D, D), bs.IGAM(D, C))
        model[1].observe(*share(rank, world, 0))
        state = bs.TrainingState(wrap(model))
        checkpoint.save({"training": state}, checkpoint_id=folder / f"compiled{number}")
        loaded = nn.Sequential(nn.Linear(D, D), bs.IGAM(D, C))
        checkpoint.load(
            {"training": bs.TrainingState(wrap(loaded))}, checkpoint_id=folder / f"compiled{number}"
        )
        assert loaded[1].refresh().count.tolist() == epoch_rows(0)[1].bincount(minlength=C).tolist()


def _compile(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


def _head_compiled(model: nn.Sequential) -> nn.Module:
    model = nn.Sequential(model[0], _compile(model[1]))
    return nn.parallel.DistributedDataParallel(model)


WRAPPERS = (
    _compile,
    lambda model: _compile(nn.parallel.DistributedDataParallel(model)),
    lambda model: nn.parallel.DistributedDataParallel(_compile(model)),
    _head_compiled,
)


def half_an_epoch(rank: int, world: int, folder: Path) -> None:
    """A checkpoint between two refreshes, written by the first process."""
    head = bs.IGAM(D, C, information={"forgetting": FORGETTING})
    head.observe(*share(rank, world, 0))
    head.refresh()
    rows, labels = share(rank, world, 1)
    head.observe(rows[::2], labels[::2])
    before = head.information.counts
    joint = head.joint_meter()
    assert torch.equal(head.information.counts, before)
    assert (joint is None) == (rank > 0)
    if joint is not None:
        stored = {"head": head.state_dict(), "meter": joint.state_dict()}
        torch.save(stored, folder / f"half{world}.pt")
    distributed.barrier()


def stored_together(rank: int, world: int, folder: Path) -> None:
    """The same with torch's distributed checkpoints."""
    model = nn.Sequential(nn.Identity(), bs.IGAM(D, C))
    model[1].observe(*share(rank, world, 0))
    counts = model[1].information.counts
    wrapped = nn.parallel.DistributedDataParallel(model)
    checkpoint.save({"training": bs.TrainingState(wrapped)}, checkpoint_id=folder / "stored")
    assert torch.equal(model[1].information.counts, counts)


def found_together(rank: int, world: int, folder: Path) -> Tensor:
    model = nn.Sequential(nn.Identity(), bs.IGAM(D, C))
    checkpoint.load({"training": bs.TrainingState(model)}, checkpoint_id=folder / "stored")
    return model[1].refresh().count


def gone_on_with(rank: int, world: int, folder: Path, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """From that checkpoint, with the rest of that epoch's rows of two processes."""
    head = bs.IGAM(D, C, information={"forgetting": FORGETTING})
    stored = torch.load(folder / name)
    head.load_state_dict(stored["head"])
    if not rank:
        head.information.load_state_dict(stored["meter"])
    rest = [(rows[1::2], labels[1::2]) for rows, labels in (share(r, 2, 1) for r in range(2))]
    for rows, labels in rest:
        head.observe(rows[rank::world], labels[rank::world])
    info = head.refresh()
    return info.count, info.drift, head.amounts


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], list[Any]]:
    """What every process of every stage returned, by the stage's work and the number of processes."""
    folder = tmp_path_factory.mktemp("together")
    stages = [
        *((world, work) for work in (measured, refreshed) for world in (2, 3)),
        (2, in_small_rounds),
        (3, in_small_rounds),
        (3, in_a_group),
        (2, failures),
        (2, within_a_budget),
        (3, nobody_saw_anything),
        (2, stored_together, folder),
        (2, the_same_rows, folder),
        (2, compiled, folder),
        (3, found_together, folder),
        (2, half_an_epoch, folder),
        *((world, gone_on_with, folder, "half2.pt") for world in (2, 3)),
    ]
    results = in_processes(folder, *stages)
    found = {(stage[1].__name__, stage[0]): result for stage, result in zip(stages, results, strict=True)}
    found["found_together", 1] = [found_together(0, 1, folder)]
    found["gone_on_with", 1] = [gone_on_with(0, 1, folder, "half2.pt")]
    return found


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10, equal_nan=True)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_processes_know_together_what_one_with_all_rows_knows(found: Any, world: int) -> None:
    ranks = found["measured", world]
    for option, expected in enumerate(measured(0, 1)):
        for epoch, info in enumerate(expected):
            for name in READINGS:
                values = [getattr(rank[option][epoch], name) for rank in ranks]
                same(values[0], getattr(info, name))
                assert all(torch.equal(v.nan_to_num(-1), values[0].nan_to_num(-1)) for v in values)
            assert all(rank[option][epoch].shrinkage == info.shrinkage for rank in ranks)
    last = ranks[0][0][-1]
    assert not last.drift[:6].isnan().any()
    assert float(last.drift[0]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_amounts_and_drift_are_those_of_numpy(found: Any, world: int) -> None:
    rows, labels = (values.numpy() for values in epoch_rows(0))
    later_rows, later_labels = (values.numpy() for values in epoch_rows(1))
    first, second, *_ = found["measured", world][1][0]
    for c, count in enumerate(np.bincount(labels, minlength=C)):
        assert first.count[c] == count
        if count >= 2:
            sigma = np.cov(rows[labels == c].T, bias=True)
            bits = np.linalg.slogdet(np.eye(D) + sigma)[1] / (2 * math.log(2))
            assert float(first.amount[c]) == pytest.approx(bits, rel=1e-10)
        if count:
            mean = rows[labels == c].mean(axis=0)
            held, new = 0.5 * count, later_rows[later_labels == c]
            moved = (held * mean + new.sum(axis=0)) / (held + len(new)) - mean
            assert float(second.drift[c]) == pytest.approx(np.linalg.norm(moved), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_all_processes_get_the_margins_of_one_process(found: Any, world: int) -> None:
    for epoch, (amounts, margins) in enumerate(refreshed(0, 1)):
        ranks = [rank[epoch] for rank in found["refreshed", world]]
        same(ranks[0][0], amounts)
        same(ranks[0][1], margins)
        for theirs, their_margins in ranks:
            assert torch.equal(theirs.nan_to_num(-1), ranks[0][0].nan_to_num(-1))
            assert torch.equal(their_margins, ranks[0][1])


@pytest.mark.slow
def test_a_group_measures_what_it_holds(found: Any) -> None:
    one, nothing, other = found["in_a_group", 3]
    assert nothing is None
    same(one, measured(0, 1)[0][0].amount)  # the process left out has no row
    assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_checkpoint_in_mid_epoch_is_resumed_by_any_number_of_processes(found: Any, world: int) -> None:
    head = bs.IGAM(D, C, information={"forgetting": FORGETTING})
    head.observe(*epoch_rows(0))
    head.refresh()
    head.observe(*epoch_rows(1))
    info = head.refresh()
    for count, drift, amounts in found["gone_on_with", world]:
        same(count, info.count)
        same(drift, info.drift)
        same(amounts, head.amounts)


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 3])
def test_a_distributed_checkpoint_holds_what_all_observed_and_counts_it_once(found: Any, world: int) -> None:
    expected = epoch_rows(0)[1].bincount(minlength=C)
    assert all(count.tolist() == expected.tolist() for count in found["found_together", world])


@pytest.mark.slow
def test_sketches_are_merged_within_their_bound_and_what_was_skipped_is_told(found: Any) -> None:
    (info, joint), (other, nothing) = found["within_a_budget", 2]
    rows, labels = many_rows()
    kept = torch.ones(600, dtype=torch.bool)
    kept[[201, 203]] = False
    exact = information_amounts(rows[kept], labels[kept], 3, shrinkage="none")
    assert info.form == other.form
    assert "sketch" in info.form
    for name in READINGS:
        assert torch.equal(getattr(info, name).nan_to_num(-1), getattr(other, name).nan_to_num(-1))
    assert nothing is None
    for measured_so in (info, joint):
        assert measured_so.skipped == 2
        assert measured_so.count.tolist() == labels[kept].bincount().tolist()
        assert bool(((measured_so.amount - exact).abs() <= measured_so.error_bound + 1e-6).all())


def test_without_processes_it_is_told_what_to_do_first() -> None:
    with pytest.raises(ArgumentError, match=r"torch\.distributed, which is not initialised"):
        compute_together(InformationMeter(2, 3))
    head = bs.IGAM(3, 2)
    head.observe(torch.randn(8, 3), torch.arange(8) % 2)
    assert head.joint_meter() is head.information
    assert head.refresh().count.tolist() == [4, 4]
