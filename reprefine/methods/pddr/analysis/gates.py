"""How the gates of PD-B weigh the branches, by layer and class."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..conv import PDConv


@torch.no_grad()
def mean_gates(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    forward: Callable[[Tensor], object] | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Average the gates over the images of each class.

    Args:
        model: Model in evaluation mode, in training or deployed form.
        batches: Preprocessed images (N, 3, H, W) and their classes (N,).
        num_classes: Number of classes.
        forward: Passes images through the model, default the model itself.

    Returns:
        For each PD-B convolution, in the order of the model, the mean weight of each branch (num_classes, J), not a
        number for a class without images; and the number of images of each class (num_classes,).

    Raises:
        UserError: If the model has no gate.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, PDConv) and m.mode == 'B'}
    if not layers:
        raise UserError('the model has no PD-B convolution, and so no gate')
    current: dict[str, Tensor] = {}
    handles = [layer.gate.register_forward_hook(_keep(current, name)) for name, layer in layers.items()]
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(num_classes)
    try:
        for images, classes in batches:
            (forward or model)(images)
            for name, gate in current.items():
                total = sums.setdefault(name, gate.new_zeros(num_classes, gate.shape[1]))
                total.index_add_(0, classes.to(gate.device), gate)
            counts += classes.cpu().bincount(minlength=num_classes)
    finally:
        for handle in handles:
            handle.remove()
    return {name: sums[name].cpu() / counts[:, None] for name in layers if name in sums}, counts


def _keep(current: dict[str, Tensor], name: str) -> Callable:
    def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
        current[name] = output

    return hook
