"""Train one head on your data; killed at any moment, the same command goes on where it was.

Every option can stand in a YAML file, given with --config, and every one of the file can be given again on the
command line, which wins. Lightning's Trainer has further ones, as --trainer.gradient_clip_val 0.5, or below
"trainer:" in the file; --help-trainer lists them. What is left in --out: last.ckpt, best.ckpt, metrics.csv,
amounts.csv, tensorboard/, settings.json and result.json; with --decide also decision.safetensors or decision.json.
"""

import argparse
import difflib
import importlib
import os
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bisector.cli.options import logging_options, process_rank, record_of
from bisector.cli.output import add_json, answered, require_folder, say, tell, with_nearest
from bisector.data.places import require_data_name
from bisector.errors import (
    ArgumentError,
    MissingExtraError,
    missing_extra,
    reason_of,
    require,
    require_choice,
)
from bisector.files import write_whole
from bisector.heads import parsed_head
from bisector.networks.names import require_backbone
from bisector.training.recipe import DECIDE, DECIDE_HELP, DECISIONS, Machine, Recipe, Task, options_of

if TYPE_CHECKING:
    from bisector.training.results import Comparison, Run

# What the Trainer must be told by us.
_OURS = {
    "accelerator",
    "devices",
    "precision",
    "max_epochs",
    "callbacks",
    "logger",
    "deterministic",
    "plugins",
}
_OURS |= {"default_root_dir", "enable_checkpointing", "use_distributed_sampler", "num_sanity_val_steps"}
_OURS |= {"model_registry", "barebones", "fast_dev_run"}
# What would make an epoch something else than one pass over the training part and one over validation.
_OURS |= {"limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval"}
_OURS |= {"check_val_every_n_epoch", "reload_dataloaders_every_n_epochs"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `run` is given the words, which jsonargparse reads with the Trainer's options among them."""


def run(arguments: argparse.Namespace, command: str) -> None:
    """Train, print what came out, write result.json."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parsed = parse(arguments.words)
    answered(partial(_train, parsed, command), as_json=parsed.json)


def _train(parsed: Any, command: str) -> "Run | None":
    require(bool(parsed.out), "--out", "''", "a folder, which is made")
    out = Path(parsed.out)
    require_folder(out)
    task, recipe, machine = record_of(Task, parsed), record_of(Recipe, parsed), record_of(Machine, parsed)

    require_choice("--decide", parsed.decide, DECISIONS)
    parsed_head(parsed.head)
    require_backbone(recipe.backbone)
    require_data_name(task.data)

    import torch

    from bisector.heads import build_head
    from bisector.records import write_record
    from bisector.report.training import format_run
    from bisector.training.checkpoints import begun_in
    from bisector.training.classification import Classification
    from bisector.training.compare import comparison_of, recipe_of
    from bisector.training.data import load_task, settled
    from bisector.training.decision import reason_against, store_decision
    from bisector.training.precision import slow_precision
    from bisector.training.results import RESULT, Run, read_result

    build_head(parsed.head, 8, 4, torch.ones(4))  # a wrong value is told before anything is read
    task, chosen = settled(task, recipe)
    dataset = load_task(task, parsed.seed, recipe)
    first = process_rank() == 0
    undecided = reason_against(dataset) if parsed.decide != "none" else ""
    if first:
        tell("train", chosen, *dataset.notes, undecided, slow_precision(machine))
        for line in dataset.left_out:
            print(f"left out: {line}", file=sys.stderr)
    experiment = Classification(
        dataset=dataset,
        task=task,
        head=parsed.head,
        recipe=recipe,
        seed=parsed.seed,
        machine=machine,
        decide=parsed.decide,
    )
    options = _trainer_options(parsed, out)
    if experiment.is_finished(out, options):
        done = read_result(Run, out / RESULT)
    else:
        trained = experiment.is_trained(out, options)
        (out / RESULT).unlink(missing_ok=True)  # of a shorter training
        if first:
            then = "they are evaluated" + f", the decision by {parsed.decide} is fitted" * (
                parsed.decide != "none"
            )
            tell("train", begun_in(out, recipe.epochs, then, trained=trained))
        _, done, decision = experiment.run(out, options)
        if process_rank() != 0:  # Lightning has started the others meanwhile
            return None
        store_decision(out, decision)
        write_record(done, out / RESULT)
    say(format_run(done, dataset, out))
    if done.verification is not None:
        from bisector.report.verification import write_verification

        say(f"The page with the ROC: {write_verification([done], task.data, command, out)}")
    how = recipe_of(dataset, task, recipe, machine, parsed.decide)
    say(_page(comparison_of(dataset, task, how, [done], command), out / "report.html"))
    return done


def _page(found: "Comparison", path: Path) -> str:
    """Write the page of a training; say where it is, or what it takes."""
    try:
        from bisector.report.comparison import render_page
    except MissingExtraError as error:  # it is trained all the same
        return f"No page: {error}"
    write_whole(path, render_page(found))
    return f"The page: {path}"


def parse(words: Sequence[str]) -> Any:
    """Return what the words and the file say.

    Lightning, which takes seconds to import, is asked for its Trainer's options only where one is given.

    Raises:
        ArgumentError: they can't be read.
    """
    try:
        from jsonargparse import ArgumentError as Wrong
    except ImportError:
        raise missing_extra("lightning and jsonargparse", "train") from None
    parser = own_parser()
    try:
        parsed = parser.parse_args(list(words))
        if parsed.help_trainer:
            own_parser(trainer=True).print_help()
            sys.exit(0)
        if parsed.trainer:
            parser = own_parser(trainer=True)
            parsed = parser.parse_args(list(words))
            if parsed.trainer.logger is not None:
                parsed.trainer.logger = _logger(parsed.trainer.logger.as_dict())
        return parsed
    except UnicodeDecodeError:
        raise ArgumentError("--config: got a file that is no text in UTF-8; expected YAML") from None
    except (Wrong, argparse.ArgumentError) as error:
        told = _plainly(reason_of(error))
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise ArgumentError(with_nearest(told, flags)) from None


def _logger(given: Any) -> Any:
    """Return the logger of a class and its arguments.

    Raises:
        ArgumentError: it can't be made: most need a package of their own.
    """
    options = {**(given.get("init_args") or {}), **(given.get("dict_kwargs") or {})}
    module, _, name = given["class_path"].rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)(**options)
    except Exception as error:  # whatever a class of anybody raises
        raise ArgumentError(f"--trainer.logger: {given['class_path']}: {reason_of(error)}") from None


def _plainly(told: str) -> str:
    """Say as we do what jsonargparse says of a value or of a file."""
    if told.startswith(("Unexpected config", "Problems parsing config")):
        return f"--config: {told[:160]}; expected YAML with a line for each option, as epochs: 10"
    unknown = re.fullmatch(r"Option '([\w.-]+)' is not accepted", told)
    if unknown:
        names = [name for kind in (Task, Recipe, Machine) for name, _, _ in options_of(kind)]
        near = difflib.get_close_matches(unknown[1].rpartition(".")[2], [*names, "head", "seed", "out"], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return (
            f"--config: got the option {unknown[1]!r}; {hint}expected those that bisector train --help lists"
        )
    if 'Parser key "trainer.logger"' in told:
        value = told.rpartition("value: ")[2]
        made = re.match(r"Namespace\(class_path='([\w.]+)'", value)
        if made:  # a class that there is, which needs more than was given
            return f"--trainer.logger: got {made[1]} without all that it needs; expected --trainer.logger.NAME too"
        return f"--trainer.logger: got {value}; expected the class of one, as lightning.pytorch.loggers.CSVLogger"
    found = re.fullmatch(r'Parser key "([\w.]+)":(.*?)(?:Got|Given) value: (.*)', told)
    kinds = re.findall(r"Expected an? <class '(\w+)'>", found[2]) if found else []
    if found is None or not kinds:
        return told
    words = {"int": "an integer", "float": "a number", "str": "text", "dict": "options", "NoneType": "null"}
    return f"{found[1]}: got {found[3]!r}; expected {' or '.join(words.get(kind, kind) for kind in kinds)}"


def own_parser(*, trainer: bool = False) -> Any:
    """Return the parser, with every option of the Trainer or with one that takes whatever is given for it."""
    try:
        from jsonargparse import ActionYesNo, ArgumentParser
    except ImportError:
        raise missing_extra("lightning and jsonargparse", "train") from None
    parser = ArgumentParser(
        prog="bisector train", description=__doc__, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    parser.add_argument("--head", type=str, default="igam", help="name of the head, options after colons")
    parser.add_argument(
        "--seed", type=int, default=0, help="decides split, long tail, first weights and order"
    )
    parser.add_argument("--decide", type=str, default=DECIDE, help=DECIDE_HELP)
    parser.add_argument("--out", type=str, default="runs/train", help="folder for everything that is written")
    parser.add_argument(
        "--tensorboard",
        action=ActionYesNo(no_prefix="no-"),
        default=True,
        help="write TensorBoard's event files too",
    )
    add_json(parser)
    for kind in (Task, Recipe, Machine):
        group = parser.add_argument_group((kind.__doc__ or "").splitlines()[0])
        for name, default, text in options_of(kind):
            hint = kind.__annotations__[name]
            how = {"action": ActionYesNo(no_prefix="no-")} if hint is bool else {"type": hint}
            group.add_argument(f"--{name.replace('_', '-')}", default=default, help=text, **how)
    parser.add_argument(
        "--help-trainer", action="store_true", help="show the options of Lightning's Trainer too, and exit"
    )
    if trainer:
        try:
            import lightning
            from lightning.pytorch.loggers import Logger
        except ImportError:
            raise missing_extra("lightning", "train") from None
        parser.add_class_arguments(lightning.Trainer, "trainer", skip=_OURS)
        text = "the class of a logger beside TensorBoard's, as lightning.pytorch.loggers.MLFlowLogger"
        parser.add_argument("--trainer.logger", type=Logger | None, default=None, help=text)
    else:
        text = "an option of Lightning's Trainer: --trainer.NAME VALUE"
        parser.add_argument("--trainer", type=dict[str, Any] | str, default={}, metavar="OPTION", help=text)
    return parser


def _trainer_options(parsed: Any, out: Path) -> dict[str, Any]:
    import inspect

    import lightning

    defaults = inspect.signature(lightning.Trainer).parameters
    given = vars(parsed.trainer) if parsed.trainer else {}
    chosen = {name: value for name, value in given.items() if value != defaults[name].default}
    ours = logging_options(out, tensorboard=parsed.tensorboard)
    loggers = [options.pop("logger") for options in (ours, chosen) if "logger" in options]
    return {**ours, **chosen, **({"logger": loggers} if loggers else {})}
