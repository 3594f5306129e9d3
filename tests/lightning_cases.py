"""Lightning's Trainer on the CPU, without files and words."""

from typing import Any

import lightning


def quiet_trainer(epochs: int, *callbacks: lightning.Callback, **options: Any) -> lightning.Trainer:
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    ours = {"accelerator": "cpu", "use_distributed_sampler": False, **dict.fromkeys(silent, False)}
    return lightning.Trainer(max_epochs=epochs, callbacks=list(callbacks), **(ours | options))
