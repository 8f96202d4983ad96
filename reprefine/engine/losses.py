"""Names of the losses of a base model to which a method adds its own."""

from typing import Any


def rename_task_loss(losses: dict[str, Any]) -> dict[str, Any]:
    """Return the losses of a base model with a term ``loss`` renamed to ``loss_task``.

    mmengine logs the sum of all losses as ``loss``; a term of this name, as in mmpretrain's classifiers, would replace
    the sum in the log.

    Args:
        losses: Loss dict of the base model.
    """
    return {'loss_task' if name == 'loss' else name: value for name, value in losses.items()}
