"""A trained classifier as one file for other programs: backbone, head and decision, compared before it is there."""

import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bisector._version import __version__
from bisector.errors import missing_extra, reason_of, require, require_choice, require_integer
from bisector.files import require_safetensors, write_whole
from bisector.inference.formats import FORMATS, OLDEST_OPSET, OPSET, YOUNGEST_OPSET, require_suffix
from bisector.inference.predictor import Predictor
from bisector.networks.names import chosen_backbone
from bisector.records import to_json
from bisector.training.decision import decision_network
from bisector.training.exported import Stored, write_exported
from bisector.training.results import RESULT, Run, read_result

NOTES = "bisector.json"
"""The extra file of a ``.pt2`` archive that holds what `description` says."""

_TOLERANCE = 1e-3  # by which scores may differ from PyTorch's, for each unit of the largest


@dataclass(frozen=True)
class Exported:
    """What came out of an export."""

    path: Path
    rows: int  # that were computed by the file and by PyTorch; 0 of weights alone
    difference: float  # of their scores at most
    other: int  # rows whose class is another one


def export(
    model: Predictor, path: Path, format: str, rows: Tensor, *, opset: int = OPSET
) -> Exported:  # rows (N, *shape)
    """Write a classifier with its decision as one file, after the file's scores were compared with PyTorch's.

    ``onnx`` and ``torch`` (a program of `torch.export`) take inputs (N, *shape) of any N, images from 0 to 1, and
    return ``scores`` (N, C) and ``embeddings`` (N, D); the class is that of the highest score, probabilities are
    their softmax. ``safetensors`` has the weights of backbone and head and the numbers of the decision,
    and all that `bisector.load` builds the model again from.
    What the file is (`description`) is in its metadata.

    Args:
        model: that is written.
        path: of the file, whole or not there.
        format: "onnx", "torch" or "safetensors".
        rows: real inputs, by which both are compared.
        opset: version of ONNX's operators.

    Raises:
        ArgumentError: an argument is not as described, the network cannot be exported, or the file gives other
            scores than PyTorch: then nothing is written.
        MissingExtraError: a package for the format is not installed.
        OSError: the file cannot be written.
    """
    require_choice("format", format, FORMATS)
    require_suffix(path, format)
    require_integer("opset", opset, least=OLDEST_OPSET, most=YOUNGEST_OPSET)
    require(len(rows) > 0, "rows", "none", "inputs to compare with")
    if format == "safetensors":
        write_weights(model, path)
        return Exported(path, 0, 0.0, 0)
    network = decision_network(model.trained, embeddings=True).cpu()
    notes = description(model)
    make = _onnx if format == "onnx" else _program
    with _one_complaint(format):
        content, compute = make(network, rows[:2], notes, opset)
    found = _compared(model, network, path, rows, compute)
    write_whole(path, content)
    return found


def description(model: Predictor) -> dict[str, Any]:
    """Return what an exported file says of itself, as plain values: no path of this machine is among them."""
    trained, decision = model.trained, model.decision
    return {
        "class_names": list(model.class_names),
        "input_shape": list(model.shape),
        "preprocessing": preprocessing(model),
        "pixel_range": list(trained.pixel_range) if trained.pixel_range else None,
        "backbone": chosen_backbone(trained.recipe.backbone, model.shape),
        "head": trained.head,
        "decision": None if decision is None else decision.method,
        "decision_description": None if decision is None else decision.description,
        "data": data_name(model),
        "epochs": trained.epochs,
        "seed": trained.seed,
        "train_counts": trained.train_counts.tolist(),
        "version": __version__,
    }


def preprocessing(model: Predictor) -> str:
    """Return in one line how an image becomes an input, as `bisector.data.images` does it: file and card say it."""
    if len(model.shape) != 3:
        return f"none: vectors (N, {model.shape[0]}), float32, as the model was trained on"
    channels, height, width = model.shape
    size = f"images of {width} x {height} pixels alone"
    if height == width:
        size = f"""Pillow's reduced JPEG decoding by draft(None, ({2 * width}, {2 * height})), \
shorter side resized to {width} with the proportion kept (Pillow's BILINEAR, which is antialiased), the middle \
{width} x {height} cut out, none of it where an image has that size"""
    deep = "its own range"
    if model.trained.pixel_range is not None:
        deep = "{:g} to {:g}, those of training".format(*model.trained.pixel_range)
    return f"""{"L (gray)" if channels == 1 else "RGB"} of 8 bits (values of more bits: {deep}, become 0 to 255), \
upright by EXIF, what is transparent on white; {size}; divided by 255; float32 (N, {channels}, {height}, {width}), \
values from 0 to 1; normalised inside"""


def data_name(model: Predictor) -> str:
    """Return what the model was trained on, without the folders that lead there."""
    return ",".join(Path(word).name or word for word in model.trained.task.data.split(","))


def known_result(model: Predictor) -> Run | None:
    """Return what was measured of a classifier after training; None where that is not known.

    Raises:
        DamagedFileError: the result of the training cannot be read.
    """
    path = Path(model.model.name) / RESULT
    return read_result(Run, path) if path.is_file() else model.trained.result


_Compute = Callable[[Tensor], Tensor]
"""Inputs to scores, by the file."""


def _onnx(network: nn.Module, rows: Tensor, notes: Mapping[str, Any], opset: int) -> tuple[bytes, _Compute]:
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise missing_extra(error.name or "onnx", "export") from None
    given = "images" if rows.dim() == 4 else "vectors"
    names = [given, "scores", "embeddings"]
    written = io.BytesIO()
    torch.onnx.export(
        network,
        (rows,),
        written,  # type: ignore[arg-type]  # which the older exporter takes
        dynamo=False,  # the other exporter needs onnxscript
        opset_version=opset,
        input_names=names[:1],
        output_names=names[1:],
        dynamic_axes={name: {0: "rows"} for name in names},
    )
    graph = onnx.load_from_string(written.getvalue())
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in notes.items()}
    onnx.helper.set_model_props(graph, texts)
    graph.producer_name, graph.producer_version = "bisector", __version__
    content = graph.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def compute(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(["scores"], {given: np.ascontiguousarray(inputs.numpy())})[0])

    return content, compute


def _program(
    network: nn.Module, rows: Tensor, notes: Mapping[str, Any], opset: int
) -> tuple[bytes, _Compute]:
    rows = rows if len(rows) > 1 else rows.expand(2, *rows.shape[1:])  # a size of 1 would be taken for fixed
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(network, (rows.contiguous(),), dynamic_shapes=shapes)
    written = io.BytesIO()
    torch.export.save(program, written, extra_files={NOTES: json.dumps(notes)})
    again = torch.export.load(io.BytesIO(written.getvalue())).module()

    def compute(inputs: Tensor) -> Tensor:
        scores: Tensor = again(inputs)[0]
        return scores

    return written.getvalue(), compute


@contextmanager
def _one_complaint(format: str) -> Iterator[None]:
    """Turn what an exporter raises into one error, and its warnings into nothing."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            yield
        except (ImportError, MemoryError, OSError):
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {reason_of(error, whole=False)}"
            require(
                False,
                "format",
                f"{format!r}, as which this network cannot be written ({reason})",
                "another one",
            )


def _compared(model: Predictor, network: nn.Module, path: Path, rows: Tensor, compute: _Compute) -> Exported:
    """Compare the scores of a file with PyTorch's, and its classes with those that `Predictor` decides.

    Raises:
        ArgumentError: the scores are others.
    """
    inputs = [rows[:1], *torch.split(rows[1:], 256)]  # one row alone, too: the file shall take any number
    with torch.inference_mode():
        expected = torch.cat([network(batch)[0] for batch in inputs])
        found = torch.cat([compute(batch) for batch in inputs])
    difference = float((found - expected).abs().max())
    bound = _TOLERANCE * max(1.0, float(expected.abs().max()))
    got = f"{path}, whose scores differ from PyTorch's by {difference:.3g}"
    require(difference <= bound, "out", got, f"at most {bound:.3g}; nothing is written")
    decided = torch.cat([model.decided(batch) for batch in inputs]).argmax(1)
    return Exported(path, len(rows), difference, int((found.argmax(1) != decided).sum()))


def write_weights(model: Predictor, path: Path) -> None:
    """Write a classifier as the safetensors file that `bisector.load` reads; `export` has the errors."""
    require_safetensors("export")
    write_exported(path, _stored(model), description(model))


def _stored(model: Predictor) -> Stored:
    """Return what a classifier is built again from; folders of this machine are not among it."""
    trained, run = model.trained, known_result(model)
    told = {
        "task": {**asdict(trained.task), "data": data_name(model)},
        "recipe": asdict(trained.recipe),
        "head": trained.head,
        "seed": trained.seed,
        "class_names": list(trained.class_names),
        "shape": list(trained.shape),
        "train_counts": trained.train_counts.tolist(),
        "pixel_range": list(trained.pixel_range) if trained.pixel_range else None,
    }
    if run is not None:  # without what grows with the square of the classes, or with the epochs
        decided = None if run.decided is None else replace(run.decided, confusion=[])
        run = replace(run, confusion=[], margins=None, amount_history=[], decided=decided)
    weights = trained.model.state_dict()
    return Stored(told, weights, trained.epochs, trained.decision, None if run is None else to_json(run))
