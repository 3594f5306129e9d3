"""A trained classifier, loaded to be asked: images to class names and probabilities."""

import io
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from bisector.data.image_examples import decode_each
from bisector.data.images import Encoded
from bisector.errors import require
from bisector.networks.names import chosen_backbone

if TYPE_CHECKING:
    from PIL import Image

    from bisector.embedding.trained import TrainedModel
    from bisector.posthoc import BaseAdjustment

BATCH = 256
"""Examples that are computed at once."""

One: TypeAlias = "str | PathLike[str] | bytes | Image.Image"
Images: TypeAlias = "Tensor | np.ndarray[Any, Any] | One | Iterable[One]"
"""A tensor of images or vectors, or paths, contents of files or images of Pillow, one or many."""


def load(path: Path | str, *, device: torch.device | str | None = None) -> "Predictor":
    """Load what `bisector train` or `bisector export` left, to ask it for classes and probabilities.

    Args:
        path: the folder of a training, with the decision that is kept there; a checkpoint alone, which has none; a
            ``.safetensors`` that was exported; or the folder of `Predictor.save_pretrained`.
        device: that computes; a GPU if there is one, else the CPU, if None.

    Raises:
        ArgumentError: nothing of bisector's is there, or PyTorch cannot compute on the device.
        MissingExtraError: without Lightning.

    >>> load("no/such/run")
    Traceback (most recent call last):
    bisector.errors.ArgumentError: model: got no/such/run; expected a checkpoint, or the folder of a training ...
    """
    from bisector.embedding.model import require_device
    from bisector.embedding.trained import TrainedModel

    return Predictor(TrainedModel(Path(path), require_device(device)))


class Predictor:
    """A trained classifier with its decision: images to classes, by number or name, and probabilities.

    Images are given in any of these forms, one or many:

    - a tensor or array (N, channels, height, width) of the model's own shape, or one (channels, height, width):
      numbers from 0 to 1, or bytes. Vectors (N, D) for a model of vectors;
    - paths of image files, their contents as `bytes`, or images of Pillow: brought to the model's shape as in
      training, the shorter side to its length and the middle cut out.

    Every example is decided for itself; which others are asked with it does not matter.

    Args:
        model: what `bisector.embedding.trained` opened.

    Attributes:
        class_names: of the C classes.
        shape: of one example, (channels, height, width) or (D,).
        decision: how scores and embeddings become classes, fitted after training; None for the highest score.
        trained: what is known of the training.
    """

    def __init__(self, model: "TrainedModel") -> None:
        self.model = model
        self.trained = model.trained
        self.class_names: tuple[str, ...] = model.trained.class_names
        self.shape: tuple[int, ...] = model.trained.shape
        self.decision: BaseAdjustment | None = model.trained.followed

    def __repr__(self) -> str:
        told: dict[str, Any] = {
            "head": self.trained.head,
            "backbone": chosen_backbone(self.trained.recipe.backbone, self.shape),
            "shape": self.shape,
            "classes": len(self.class_names),
            "decision": None if self.decision is None else self.decision.method,
        }
        return f"Predictor({', '.join(f'{name}={value!r}' for name, value in told.items())})"

    def predict(self, images: Images) -> list[str]:
        """Return the name of the class of each of N images.

        Raises:
            ArgumentError: an image cannot be read, or is not of the model's shape, or a number is not finite.
        """
        return [self.class_names[index] for index in self.indices(images).tolist()]

    def indices(self, images: Images) -> Tensor:
        """Return the (N,) classes from 0 to C - 1; errors as of `predict`."""
        return self.scores(images).argmax(dim=1)

    def probabilities(self, images: Images) -> Tensor:
        """Return the (N, C) probabilities of the classes, float32 on the CPU; errors as of `predict`.

        They are the softmax of `scores`: what the head was trained to give, and after a decision what that was
        fitted to give with all classes weighing the same, as though none were rare.
        """
        return self.scores(images).softmax(dim=1).float()

    def scores(self, images: Images) -> Tensor:
        """Return the (N, C) logits after the decision, float64 on the CPU; errors as of `predict`."""
        found = [self.decided(batch) for batch in self._batches(images)]
        return torch.cat(found) if found else torch.empty(0, len(self.class_names), dtype=torch.float64)

    def decided(
        self,
        inputs: Tensor,  # (B, *shape)
    ) -> Tensor:
        """Return the (B, C) logits after the decision of one batch of numbers from 0 to 1, or of vectors."""
        embeddings, logits = self.model.embed(inputs)
        assert logits is not None  # a head has classes
        if self.decision is None:
            return logits.double()
        return self.decision.adjusted_logits(logits.double(), embeddings)

    def save_pretrained(self, folder: Path | str, *, license: str | None = None) -> None:
        """Write weights, decision and model card into a folder, as the Hugging Face Hub keeps a model.

        `load` and `from_pretrained` read it, also without the training. A ``README.md`` that is there and none of
        ours stays as it is.

        Args:
            folder: which is made.
            license: of the model, for its card: "apache-2.0", ...

        Raises:
            MissingExtraError: huggingface_hub or safetensors is not installed.
            OSError: the folder cannot be written to.
        """
        from bisector.inference.hub import HubModel

        card = {"license": license, "name": Path(folder).resolve().name}
        HubModel(self).save_pretrained(folder, model_card_kwargs=card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        license: str | None = None,
        message: str = "Add a model of bisector",
        branch: str | None = None,
        token: str | None = None,
    ) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub, and return the address of the commit.

        Args:
            repo_id: "owner/name"; made if it is not there.
            private: whether a new repository is; as the owner's are by default if None.
            license: of the model, for its card.
            message: of the commit.
            branch: to push to; the main one if None.
            token: to log in with; the one of ``hf auth login`` if None.

        Raises:
            MissingExtraError: huggingface_hub or safetensors is not installed.
            huggingface_hub.errors.HfHubHTTPError: the Hub refuses.
        """
        from bisector.inference.hub import HubModel

        card = {"license": license, "repository": repo_id, "name": repo_id.rpartition("/")[2]}
        return HubModel(self).push_to_hub(
            repo_id,
            private=private,
            commit_message=message,
            branch=branch,
            token=token,
            model_card_kwargs=card,
        )

    @classmethod
    def from_pretrained(
        cls,
        folder_or_repo: Path | str,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: torch.device | str | None = None,
    ) -> "Predictor":
        """Load a model of the Hugging Face Hub, or of a folder of `save_pretrained`.

        Args:
            folder_or_repo: a folder, or "owner/name" on the Hub, whose files are kept in huggingface_hub's cache.
            revision: branch, tag or commit; the main branch if None.
            token: to log in with; the one of ``hf auth login`` if None.
            device: as for `load`.

        Raises:
            ArgumentError: there is no model of bisector.
            MissingExtraError: huggingface_hub, safetensors or Lightning is not installed.
            huggingface_hub.errors.HfHubHTTPError: there is no such repository.
        """
        from bisector.inference.hub import HubModel

        found: HubModel = HubModel.from_pretrained(
            folder_or_repo, revision=revision, token=token, device=device
        )
        return found.predictor

    def _batches(self, images: Images) -> Iterator[Tensor]:
        if isinstance(images, Tensor | np.ndarray):
            whole = self._checked(torch.as_tensor(images))
            for start in range(0, len(whole), BATCH):
                batch = whole[start : start + BATCH]
                yield batch.float().div(255) if batch.dtype == torch.uint8 else batch.float()
            return
        many: list[Any] = [images] if _is_one(images) else list(images)  # type: ignore[arg-type]
        require(
            len(self.shape) == 3, "images", "files", f"a tensor (N, {self.shape[0]}): the model takes vectors"
        )
        for start in range(0, len(many), BATCH):
            yield self._decoded(many[start : start + BATCH], start)

    def _checked(self, given: Tensor) -> Tensor:
        """Return numbers with a dimension of rows."""
        rows = given[None] if given.dim() == len(self.shape) else given
        sizes = ", ".join(map(str, self.shape))
        require(tuple(rows.shape[1:]) == self.shape, "images", f"shape {tuple(given.shape)}", f"(N, {sizes})")
        if rows.dtype == torch.uint8 and len(self.shape) == 3:
            return rows
        require(rows.is_floating_point(), "images", rows.dtype, "floating numbers, or images of uint8")
        if rows.numel():
            low, high = (float(end) for end in rows.aminmax())
            finite = np.isfinite([low, high]).all()
            require(bool(finite), "images", "NaN or infinity", "finite numbers")
            fits = len(self.shape) != 3 or (low >= 0 and high <= 1)
            require(
                fits,
                "images",
                f"pixels from {low:g} to {high:g}",
                "0 to 1, or bytes; the model normalises them",
            )
        return rows

    def _decoded(self, images: Sequence[Any], first: int) -> Tensor:
        encoded, names = [], []
        for number, image in enumerate(images, first):
            encoded.append(_encoded(image, number))
            names.append(encoded[-1] if isinstance(encoded[-1], str) else f"number {number}")
        pixels, _, failed = decode_each(encoded, names, self.shape, self.trained.pixel_range)
        require(not failed, "images", "; ".join(failed[:1]), "images that can be read")
        return pixels


def _is_one(images: object) -> bool:
    return isinstance(images, str | PathLike | bytes) or hasattr(images, "convert")


def _encoded(image: Any, number: int) -> Encoded:
    """Return the path or the content of an image file."""
    if isinstance(image, str | PathLike):
        return fspath(image)
    legal = "paths, bytes or images of Pillow, or a tensor of all"
    require(
        isinstance(image, bytes) or hasattr(image, "convert"),
        "images",
        f"{type(image).__name__} at {number}",
        legal,
    )
    if isinstance(image, bytes):
        return image
    from PIL import ImageOps

    upright, content = ImageOps.exif_transpose(image), io.BytesIO()
    # TIFF holds every kind of pixel without loss, but not a colour of a palette that is transparent.
    lost = "transparency" in upright.info or upright.mode in {"PA", "HSV", "RGBa", "La"}
    (upright.convert("RGBA") if lost else upright).save(content, "TIFF")
    return content.getvalue()
