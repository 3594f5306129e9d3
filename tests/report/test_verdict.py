"""The sentence that a comparison ends in, and the command that it advises."""

import math
import shlex
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from bisector.cli.main import command_parser
from bisector.cli.train import own_parser
from bisector.report.verdict import verdict
from bisector.statistics.paired import PairedDifference
from bisector.training.results import Comparison, Decided, Run


def compared(values, command="bisector compare --data photos/ --heads a,b --seeds 3 --epochs=4", baseline=""):
    runs = [
        Run(head, seed, {"balanced_accuracy": value}, [], [])
        for head, own in values.items()
        for seed, value in enumerate(own)
    ]
    return Comparison(command, "1", "photos", 1.0, ["x"], [1], [1], {}, runs, baseline=baseline)


def test_a_leader_that_the_seeds_tell_is_named_and_trained():
    found = verdict(compared({"linear-softmax": [0.5, 0.51, 0.49], "logit-adjusted": [0.6, 0.611, 0.592]}))
    assert found.found == (
        "Logit-adjusted leads with a balanced accuracy of 60.1 %: 3 seeds tell it from every other head. "
        "It is +10.1 points from the baseline, Softmax, 95% interval [+9.9, +10.3]."
    )
    assert found.command == "bisector train --data photos/ --epochs 4 --head logit-adjusted"


def test_where_seeds_cannot_tell_it_says_how_many_would():
    own, base = [0.80, 0.84, 0.83], [0.80, 0.81, 0.82]
    found = verdict(compared({"linear-softmax": base, "igam:max_margin=0.3": own}))
    d = [x - y for x, y in zip(own, base, strict=True)]
    effect = sum(d) / len(d) / stats.tstd(d)
    needed = next(
        n
        for n in range(2, 99)
        if stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, effect * math.sqrt(n)) >= 0.8
    )
    assert f"3 seeds cannot tell it from Softmax; about {needed} would, four times in five." in found.found
    assert found.command == f"bisector compare --data photos/ --heads a,b --seeds {needed} --epochs 4"


@pytest.mark.parametrize(
    ("own", "told"),
    [
        ([0.82, 0.86, 0.75], "about 167 would, four times in five: take either"),
        ([0.79, 0.91, 0.70001], "nor would a thousand: take either"),
    ],
)
def test_heads_that_are_alike_in_practice_need_no_more_seeds(own, told):
    found = verdict(compared({"linear-softmax": [0.8, 0.9, 0.7], "am-softmax": own}))
    assert told in found.found
    assert found.command.startswith("bisector train ")


def test_one_seed_tells_nothing():
    found = verdict(compared({"linear-softmax": [0.8], "am-softmax": [0.9]}, "bisector demo --out 'my runs'"))
    assert "one seed cannot tell it from any other head" in found.found
    assert found.command == "bisector demo --out 'my runs' --seeds 3"


def test_a_decision_is_trained_with_its_head():
    command = "bisector compare --heads linear-softmax --decide geometry --keep --out runs/x --imbalance 20"
    found = verdict(
        compared(
            {"linear-softmax": [0.5, 0.5, 0.5], "linear-softmax + geometry": [0.6, 0.61, 0.6]},
            command=command,
        )
    )
    assert found.command == "bisector train --imbalance 20 --head linear-softmax --decide geometry"


def test_a_model_that_was_kept_is_not_trained_again():
    values = {"linear-softmax": [0.5, 0.5, 0.5], "igam": [0.6, 0.61, 0.6]}
    for out, folder in (("", "runs/compare/cells/i"), ("--out 'my x'", "'my x/cells/i'")):
        one = compared(values, f"bisector compare --data photos/ --heads a,b {out} --keep")
        found = verdict(replace(one, models={"linear-softmax": "cells/l", "igam": "cells/i"}))
        assert found.command == f"bisector embed {folder}"


def test_every_option_of_the_parsers_is_kept_where_train_takes_it_too():
    parsers = dict(command_parser()._subparsers._group_actions[0].choices)
    parsers["train"] = own_parser()
    flags = {}
    for name in ("compare", "train"):
        flags[name] = {flag: one for one in parsers[name]._actions for flag in one.option_strings}
    of_heads = {
        "--heads",
        "--head",
        "--decide",
        "--out",
        "--json",
        "--seed",
        "--seeds",
        "--config",
        "--help",
        "-h",
    }
    for flag, option in flags["compare"].items():
        if flag == "--config":
            continue
        words = [flag] if option.nargs == 0 else [flag, "7"]
        command = shlex.join(["bisector", "compare", "--heads", "a,b", *words, "--epochs", "4"])
        values = {"linear-softmax": [0.5, 0.5, 0.5], "igam": [0.6, 0.61, 0.6]}
        wanted = words if flag in flags["train"] and flag not in of_heads else []
        told = verdict(compared(values, command=command)).command
        assert told == shlex.join(["bisector", "train", *wanted, "--epochs", "4", "--head", "igam"]), flag


@pytest.mark.parametrize(
    "command", ["", "python mine.py --heads a", "bisector 'compare", "bisector train --x 1"]
)
def test_what_is_no_comparison_on_the_command_line_has_no_next_command(command):
    found = verdict(compared({"linear-softmax": [0.5, 0.5], "am-softmax": [0.9, 0.91]}, command=command))
    assert found.found
    assert found.command == ""
    assert found.lines == [found.found]


def test_heads_without_a_number_are_no_leaders():
    nothing = verdict(compared({"linear-softmax": [math.nan]}))
    assert "nothing to test on" in nothing.found


def test_pairs_needed_has_no_answer_without_an_interval_or_a_difference():
    assert PairedDifference(1.0, math.nan, math.nan, 1).pairs_needed() is None
    assert PairedDifference(0.0, -1.0, 1.0, 5).pairs_needed() is None
    assert PairedDifference(1e-6, -1.0, 1.0, 5).pairs_needed() is None
    assert PairedDifference(1.0, 1.0, 1.0, 5).pairs_needed() == 2


def test_one_training_names_its_weakest_class():
    one = compared({"igam": [0.8]}, "bisector train --data photos/ --head igam --out 'my runs/a'")
    run = replace(one.runs[0], class_accuracy=[1.0, 0.6, math.nan])
    one = replace(
        one, runs=[run], class_names=["cat", "dog", "emu"], train_counts=[9, 9, 9], test_counts=[40, 10, 0]
    )
    found = verdict(one)
    assert found.found == "IGAM has a balanced accuracy of 80.0 %; its weakest class is dog, 6 of 10 right."
    assert found.command == "bisector embed 'my runs/a'"


def test_one_training_with_a_decision_is_not_compared_with_itself():
    one = compared({"igam": [0.5], "igam + geometry": [0.7]}, "bisector train --data photos/ --out a")
    plain, decided = one.runs
    one = replace(one, runs=[plain, replace(decided, decided=Decided("geometry", "", "x"))])
    found = verdict(one)
    assert found.found == "IGAM has a balanced accuracy of 50.0 %. Decided by geometry, it has 70.0 %."
    assert found.command == "bisector embed a"


def test_the_best_of_many_must_be_clearer_than_one_head_alone():
    base, own = [0.80, 0.80, 0.80, 0.80], [0.83, 0.86, 0.82, 0.85]
    d = [x - y for x, y in zip(own, base, strict=True)]
    few = verdict(compared({"linear-softmax": base, "igam": own}))
    assert "tell it from every other head" in few.found
    others = {f"igam:gain={k}": [0.5, 0.51, 0.5, 0.49] for k in range(1, 8)}
    many = verdict(compared({"linear-softmax": base, "igam": own, **others}))
    half = stats.t.ppf(1 - 0.025 / 8, 3) * stats.tstd(d) / 2
    assert half > sum(d) / 4
    assert "cannot tell it from Softmax" in many.found


def test_as_many_pairs_as_are_said_to_be_needed_are_clear_four_times_in_five():
    draw = np.random.default_rng(0)
    found = PairedDifference(0.5, 0.5 - 1.0, 0.5 + 1.0, 8)
    spread = math.sqrt(8) / stats.t.ppf(0.975, 7)
    n = found.pairs_needed()
    drawn = draw.normal(0.5, spread, (20_000, n))
    clear = stats.ttest_1samp(drawn, 0, axis=1).statistic > stats.t.ppf(0.975, n - 1)
    assert 0.79 < clear.mean() < 0.83
