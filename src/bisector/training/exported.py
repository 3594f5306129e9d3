"""A trained classifier as one safetensors file: its weights, and as text all that it is built again from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bisector.files import read_safetensors, reading, write_safetensors
from bisector.posthoc import BaseAdjustment
from bisector.posthoc.stored import packed, unpacked

WEIGHTS = "model.safetensors"
"""What the file is called in a folder that holds a model, and no training."""

_TRAINING, _DECISION = "bisector_training", "bisector_decision"
_OF_DECISION = "decision."


@dataclass(frozen=True, eq=False)
class Stored:
    """What a checkpoint or an exported file holds of a classifier."""

    description: Mapping[
        str, Any
    ]  # plain values from which the model is built again, as a checkpoint has them
    weights: Mapping[str, Tensor]  # the state dict of backbone and head
    epochs: int  # that were finished
    decision: BaseAdjustment | None = None
    result: Mapping[str, Any] | None = None  # fields of the `Run`, where they are known


def write_exported(path: Path, stored: Stored, notes: Mapping[str, Any]) -> None:
    """Write a classifier as one safetensors file, whole or not at all.

    Args:
        path: of the file.
        stored: what is written.
        notes: what the file says of itself to other programs.

    Raises:
        MissingExtraError: safetensors is not installed.
        OSError: the file cannot be written.
    """
    told = {**stored.description, "epochs": stored.epochs, "result": stored.result}
    texts = {"format": "pt", "bisector": json.dumps(notes), _TRAINING: json.dumps(told)}
    tensors = {name: tensor.detach().clone() for name, tensor in stored.weights.items()}
    if stored.decision is not None:
        more, texts_of_it = packed(stored.decision)
        tensors |= {_OF_DECISION + name: tensor.clone() for name, tensor in more.items()}
        texts[_DECISION] = json.dumps(texts_of_it)
    write_safetensors(path, tensors, texts)


def read_exported(path: Path) -> Stored:
    """Read what `write_exported` wrote.

    Raises:
        DamagedFileError: the file holds no such classifier.
        MissingExtraError: safetensors is not installed.
        OSError: it cannot be read.
    """
    with reading(f"model: got {path}; expected the safetensors of bisector export"):
        tensors, texts = read_safetensors(path)
        if _TRAINING not in texts:
            older = "bisector" in texts
            raise ValueError("of an older version: export it again" if older else "weights of something else")
        told = json.loads(texts[_TRAINING])
        epochs, result = int(told.pop("epochs")), told.pop("result")
        decision = None
        if _DECISION in texts:
            own = {
                name.removeprefix(_OF_DECISION): tensors.pop(name)
                for name in list(tensors)
                if name.startswith(_OF_DECISION)
            }
            decision = unpacked(own, json.loads(texts[_DECISION]))
        return Stored(told, tensors, epochs, decision, result)
