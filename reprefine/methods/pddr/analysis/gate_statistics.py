"""Mean gates of PD-B by layer and class."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.visualization.results import markdown_table

from ..layers.conv import PDConv


@torch.no_grad()
def mean_gates(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], num_classes: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Average the gates over the images of each class.

    Args:
        model: Model in evaluation mode, in training or deployed form. If it has ``extract_feat``, only that runs, so
            gates in heads are not included.
        batches: Preprocessed images ``[N, 3, H, W]`` and their classes ``[N]``.
        num_classes: Number of classes ``C``.

    Returns:
        For each PD-B convolution, in registration order, the mean branch weights ``[C, J]``, NaN for a class without
        images; and the number of images of each class ``[C]``. The gates of a convolution that runs several times in a
        forward pass are averaged.

    Raises:
        UserError: If the model has no gate, or a class is not below ``num_classes``.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, PDConv) and m.mode == 'B'}
    if not layers:
        raise UserError('the model has no PD-B convolution, hence no gate: use a PD-B model')
    current: dict[str, list[Tensor]] = {}
    handles = [layer.gate.register_forward_hook(_append_output(current, name)) for name, layer in layers.items()]
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(num_classes)
    try:
        for images, classes in batches:
            if len(classes) and not (classes.min() >= 0 and classes.max() < num_classes):
                raise UserError(
                    f'the images have classes from {classes.min()} to {classes.max()}, and the model {num_classes}: '
                    'use data with the classes of the training'
                )
            current.clear()
            getattr(model, 'extract_feat', model)(images)
            for name, found in current.items():
                gate = torch.stack(found).mean(0)
                total = sums.setdefault(name, gate.new_zeros(num_classes, gate.shape[1]))
                total.index_add_(0, classes.to(gate.device), gate)
            counts += classes.cpu().bincount(minlength=num_classes)
    finally:
        for handle in handles:
            handle.remove()
    return {name: sums[name].cpu() / counts[:, None] for name in layers if name in sums}, counts


def _append_output(current: dict[str, list[Tensor]], name: str) -> Callable:
    def hook(_: nn.Module, __: tuple, output: Tensor) -> None:
        current.setdefault(name, []).append(output)

    return hook


def gate_table(gates: Mapping[str, Tensor], counts: Tensor, branches: Sequence[str]) -> str:
    """Return a Markdown table with mean over images ± standard deviation over classes, by layer and branch.

    Args:
        gates: Mean gates ``[C, J]`` by layer, see :func:`mean_gates`.
        counts: Number of images of each class ``[C]``.
        branches: Names of the J branches.
    """
    seen, several = counts > 0, (counts > 0).sum() > 1
    share = counts[seen] / counts.sum()
    rows = []
    for name, gate in gates.items():
        means = share @ gate[seen]
        spreads = gate[seen].std(0) if several else [None] * len(branches)
        cells = [f'{m:.3f}' + ('' if s is None else f' ± {s:.3f}') for m, s in zip(means, spreads, strict=True)]
        rows.append((name, *cells))
    return markdown_table(('layer', *branches), rows)
