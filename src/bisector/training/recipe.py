"""How a comparison trains: one recipe for every head."""

from dataclasses import dataclass

from bisector.errors import require_integer, require_number


@dataclass(frozen=True)
class Recipe:
    """AdamW with a one-cycle learning rate, the same for every head.

    Args:
        epochs: passes over the training split.
        batch_size: rows of a step; the last step of an epoch takes what is left.
        learning_rate: the highest of the cycle.
        weight_decay: of AdamW.
        embedding_dim: D.

    Raises:
        ArgumentError: a value is out of its range.
    """

    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    embedding_dim: int = 32

    def __post_init__(self) -> None:
        require_integer("epochs", self.epochs, least=1)
        require_integer("batch_size", self.batch_size, least=2)  # batch normalisation needs two
        require_number("learning_rate", self.learning_rate, above=0)
        require_number("weight_decay", self.weight_decay, least=0)
        require_integer("embedding_dim", self.embedding_dim, least=2)
