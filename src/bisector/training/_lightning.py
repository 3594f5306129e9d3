"""What is used of Lightning; where it is not installed, the error names the extra that brings it."""

from bisector.errors import missing_extra

try:
    from lightning import Callback, LightningDataModule, LightningModule, Trainer
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    from lightning.pytorch.strategies import DDPStrategy
except ImportError as error:
    raise missing_extra("lightning", "train") from error

__all__ = [
    "Callback",
    "DDPStrategy",
    "EarlyStopping",
    "LightningDataModule",
    "LightningModule",
    "MisconfigurationException",
    "TorchCheckpointIO",
    "Trainer",
]
