import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bisector.data.examples import InMemory
from bisector.data.source import Source
from bisector.data.splits import open_set_split, standard_split
from bisector.errors import ArgumentError

counts = st.lists(st.integers(1, 60), min_size=2, max_size=12)
seeds = st.integers(0, 2**32)


def source(counts, parts=None, shuffle=0):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(shuffle))]
    rows = torch.arange(len(labels), dtype=torch.float64)[:, None]  # an example tells its position
    return Source(InMemory(rows), labels, tuple(f"class {c}" for c in range(len(counts))), parts or {})


def rows(part):
    return part.examples.batch(torch.arange(len(part)))[:, 0].long().tolist()


def all_rows(*parts):
    return [row for part in parts for row in rows(part)]


def by_class(labels, classes):
    return torch.bincount(labels, minlength=classes).tolist()


@given(counts, seeds)
def test_each_example_is_in_one_part_and_keeps_its_label(counts, seed):
    whole = source(counts, shuffle=seed)
    data = standard_split("x", whole, seed=seed)
    parts = (data.train, data.validation, data.test)
    found = all_rows(*parts)
    assert sorted(found) == list(range(sum(counts)))
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels[torch.tensor(found)])


@given(counts, seeds)
def test_the_shares_of_each_class(counts, seed):
    data = standard_split("x", source(counts), seed=seed)
    train, validation, test = (
        by_class(part.labels, len(counts)) for part in (data.train, data.validation, data.test)
    )
    for n, trained, chosen, tested in zip(counts, train, validation, test, strict=True):
        assert trained >= 1
        assert tested >= (n >= 2)
        assert chosen >= (n >= 3)
        assert abs(tested - 0.2 * n) <= 1
        assert abs(chosen - 0.1 * (n - tested)) <= 1


@given(counts, seeds, st.floats(1.5, 100))
def test_the_long_tail_is_of_the_training_part_alone(counts, seed, imbalance):
    whole, thinned = (standard_split("x", source(counts), seed=seed, imbalance=i) for i in (1, imbalance))
    assert rows(whole.test) == rows(thinned.test)
    assert rows(whole.validation) == rows(thinned.validation)
    assert set(rows(thinned.train)) <= set(rows(whole.train))


def test_a_balanced_set_gets_the_tail_asked_for():
    data = standard_split("x", source([500] * 10), imbalance=100, seed=4)
    assert sorted(data.train_counts.tolist())[::9] == [4, 360]


def test_the_seed_decides_the_split():
    splits = [standard_split("x", source([40, 40]), seed=seed) for seed in (0, 0, 1)]
    assert rows(splits[0].test) == rows(splits[1].test) != rows(splits[2].test)
    assert rows(splits[0].validation) != rows(splits[2].validation)


def test_the_own_test_part_stays():
    own = {"train": torch.arange(0, 80), "test": torch.arange(80, 100)}
    data = standard_split("x", source([50, 50], own))
    assert sorted(rows(data.test)) == list(range(80, 100))
    assert len(data.validation) in (8, 9)
    assert len(data.train) + len(data.validation) == 80


def test_a_lone_validation_part_is_for_test():
    own = {"train": torch.arange(0, 80), "validation": torch.arange(80, 100)}
    data = standard_split("x", source([50, 50], own))
    assert sorted(rows(data.test)) == list(range(80, 100))
    assert len(data.validation) >= 8
    both = own | {"validation": torch.arange(80, 90), "test": torch.arange(90, 100)}
    data = standard_split("x", source([50, 50], both))
    assert sorted(rows(data.validation)) == list(range(80, 90))
    assert sorted(rows(data.train)) == list(range(80))


def test_parts_without_training_are_divided_as_a_whole():
    data = standard_split("x", source([50, 50], {"test": torch.arange(100)}))
    assert len(data.train) == 72


def test_a_class_that_cannot_be_trained_on_is_named():
    labels = torch.tensor([0] * 10 + [2] * 10 + [1] * 5 + [0, 2])
    whole = Source(
        InMemory(torch.zeros(27, 1)),
        labels,
        ("a", "b", "c", "d"),
        {"train": torch.arange(20), "test": torch.arange(20, 27)},
    )
    data = standard_split("x", whole)
    assert data.class_names == ("a", "c")
    assert data.test.labels.tolist() == [0, 1]
    assert data.left_out == (
        "class 'b': no example to train on; 5 for validation and test",
        "class 'd': no example to train on; 0 for validation and test",
    )


def test_one_class_is_not_enough():
    with pytest.raises(
        ArgumentError, match="data: got 1 class with examples to train on; expected at least 2"
    ):
        standard_split("x", source([50]))
    with pytest.raises(ArgumentError, match="imbalance: got 0"):
        standard_split("x", source([50, 50]), imbalance=0)


@given(st.lists(st.integers(1, 30), min_size=4, max_size=12), seeds)
def test_an_open_set_divides_the_classes(counts, seed):
    whole = source(counts)
    data = open_set_split("x", whole, seed=seed)
    assert len(data.test_names) == len(counts) // 2
    assert sorted((*data.class_names, *data.test_names)) == sorted(whole.class_names)
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    assert sorted(all_rows(*parts.values())) == list(range(sum(counts)))
    for name, part in parts.items():
        names = data.test_names if name == "test" else data.class_names
        truth = [
            whole.class_names[c] for c in whole.labels[torch.tensor(rows(part), dtype=torch.long)].tolist()
        ]
        assert [names[c] for c in part.labels.tolist()] == truth
    assert data.train_counts.min() >= 1


def test_an_open_set_of_the_data_s_own():
    own = {"train": torch.arange(0, 20), "test": torch.arange(20, 40)}
    labels = torch.arange(40) // 10
    whole = Source(InMemory(torch.arange(40.0)[:, None]), labels, tuple("abcd"), own)
    data = open_set_split("x", whole, seed=5)
    assert (data.class_names, data.test_names) == (("a", "b"), ("c", "d"))
    with pytest.raises(ArgumentError, match="data: got 3 classes; expected at least 4"):
        open_set_split("x", source([3, 3, 3]))


def test_other_classes_for_test_lose_no_training_example_to_a_standard_split():
    own = {"train": torch.arange(0, 20), "test": torch.arange(20, 40)}
    whole = Source(InMemory(torch.arange(40.0)[:, None]), torch.arange(40) // 10, tuple("abcd"), own)
    with pytest.raises(
        ArgumentError, match=r"split: got 'standard', but its test part .* expected 'open-set'"
    ):
        standard_split("x", whole)
