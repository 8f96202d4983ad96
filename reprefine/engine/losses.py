"""Losses of a base model to which a method adds its own."""

from typing import Any


def rename_task_loss(losses: dict[str, Any]) -> dict[str, Any]:
    """Return the losses of a base model under names that leave ``loss`` free: a term of that name is ``loss_task``.

    mmengine logs the sum of all losses as ``loss``, but a term of the same name, as in mmpretrain's classifiers, would
    be logged in its place.

    Args:
        losses: Loss dict of the base model.
    """
    return {'loss_task' if name == 'loss' else name: value for name, value in losses.items()}
