"""A trained classifier on the Hugging Face Hub, or in a folder as the Hub keeps it."""

import json
from pathlib import Path
from typing import Any

from bisector.errors import missing_extra
from bisector.inference.card import is_card, model_card
from bisector.inference.export import description, write_weights
from bisector.inference.predictor import Predictor, load
from bisector.training.exported import WEIGHTS

try:
    from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
except ImportError:
    raise missing_extra("huggingface_hub", "hf") from None

CARD = "README.md"


class HubModel(ModelHubMixin):
    """A predictor as `huggingface_hub` stores, uploads and downloads it: weights, ``config.json`` and model card.

    `Predictor` has methods that are called alike; this class has all options of the library.

    Args:
        predictor: that is stored.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def _save_pretrained(self, save_directory: Path) -> None:
        write_weights(self.predictor, save_directory / WEIGHTS)
        # The Hub counts downloads by this file.
        text = json.dumps(description(self.predictor), indent=1, ensure_ascii=False)
        (save_directory / "config.json").write_text(text + "\n", encoding="utf-8")
        card = save_directory / CARD
        if card.is_file() and is_card(card):  # of a model that was here before; one that somebody wrote stays
            card.unlink()

    def generate_model_card(
        self, *, license: str | None = None, repository: str | None = None, name: str | None = None
    ) -> ModelCard:
        """Return the card; arguments as `model_card_kwargs` of `save_pretrained`.

        Args:
            license: of the model, by its identifier.
            repository: its name on the Hub, for the lines that say how to load it.
            name: of the model, its title.
        """
        file = Path(f"{name or 'model'}.safetensors")
        return ModelCard(
            model_card(self.predictor, file, "safetensors", license=license, repository=repository)
        )

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        device: Any = None,
        **model_kwargs: Any,  # as the library asks for it; there are none
    ) -> "HubModel":
        if Path(model_id).exists():
            return cls(load(model_id, device=device))
        folder = snapshot_download(
            model_id,
            allow_patterns=[WEIGHTS, "config.json", CARD],
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            token=token,
        )
        return cls(load(folder, device=device))
