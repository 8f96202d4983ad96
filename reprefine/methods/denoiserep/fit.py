"""Closed-form fit: every predictor from one pass over unlabelled data, instead of epochs of gradient descent."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import LOOPS

from .convert import denoise_layers, denoise_state
from .functional import expected_l2_loss, optimal_predictor
from .layers import _DenoiseLayer


class FeatureMoments:
    """First and second moments of a feature, accumulated in float64.

    Args:
        groups: Number of diagonal blocks ``g``.
        width: Channels per block ``n``.
        device: Where the sums are kept.
    """

    def __init__(self, groups: int, width: int, device: torch.device | None = None) -> None:
        self.groups, self.width = groups, width
        self.count = torch.zeros((), dtype=torch.float64, device=device)
        self.sums = torch.zeros(groups, width, dtype=torch.float64, device=device)
        self.products = torch.zeros(groups, width, width, dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, feature: Tensor, channel_dim: int) -> None:
        """Add every position of a feature ``[..., C]`` (``channel_dim=-1``) or ``[B, C, ...]`` (``channel_dim=1``)."""
        rows = feature.movedim(channel_dim, -1).reshape(-1, self.groups, self.width).transpose(0, 1).double()
        self.count += rows.shape[1]
        self.sums += rows.sum(1)
        self.products += rows.transpose(1, 2) @ rows

    def all_reduce(self) -> None:
        """Sum over all processes."""
        for tensor in (self.count, self.sums, self.products):
            all_reduce(tensor, 'sum')

    @property
    def mean(self) -> Tensor:
        """``E[x]``, shape ``[g, n]``."""
        return self.sums / self.count

    @property
    def second_moment(self) -> Tensor:
        """``E[x x^T]`` per group, shape ``[g, n, n]``."""
        return self.products / self.count


@contextmanager
def collect_moments(model: nn.Module) -> Iterator[dict[str, FeatureMoments]]:
    """Collect, while the context is open, the moments of every feature a denoiser of ``model`` sees.

    Run the model in evaluation mode: the host is then undenoised meanwhile, so that all layers can be solved from one
    pass. Yields moments by layer name.
    """
    layers = denoise_layers(model)
    state = denoise_state(model)
    was_denoised, state.denoise_eval = state.denoise_eval, False
    moments: dict[str, FeatureMoments] = {}
    handles = []
    for name, layer in layers.items():
        channels, width = layer.denoiser.weight.shape
        moments[name] = FeatureMoments(channels // width, width, layer.weight.device)
        handles.append(layer.register_forward_hook(_collector(moments[name])))
    try:
        yield moments
    finally:
        state.denoise_eval = was_denoised
        for handle in handles:
            handle.remove()


def _collector(moments: FeatureMoments):
    def collect(layer: _DenoiseLayer, inputs: tuple, output: Tensor) -> None:
        moments.add(inputs[0] if layer.side == 'input' else output, layer.channel_dim)

    return collect


def fit_closed_form(model: nn.Module, moments: dict[str, FeatureMoments]) -> dict[str, tuple[float, float]]:
    """Set every predictor to the minimiser of its L2 noise loss.

    Args:
        model: Converted model.
        moments: Result of :func:`collect_moments`, already reduced over processes.

    Returns:
        Expected L2 noise loss per layer before and after.

    Raises:
        UserError: If a layer saw no data.
    """
    before = expected_noise_losses(model, moments)
    for name, layer in denoise_layers(model).items():
        step, has_constant = layer.denoiser.step, layer.denoiser.bias is not None
        m = moments[name]
        layer.denoiser.set_predictor(*optimal_predictor(m.second_moment, m.mean, step, has_constant))
    after = expected_noise_losses(model, moments)
    return {name: (before[name], after[name]) for name in before}


@torch.no_grad()
def expected_noise_losses(model: nn.Module, moments: dict[str, FeatureMoments]) -> dict[str, float]:
    """Return the expected L2 noise loss of every layer for features of the given moments.

    Raises:
        UserError: If a layer saw no data.
    """
    silent = [name for name, m in moments.items() if m.count == 0]
    if silent:
        raise UserError(f'no feature reached {", ".join(silent[:5])}: exclude these layers, or check the data')
    losses = {}
    for name, layer in denoise_layers(model).items():
        constant = layer.denoiser.constant()
        losses[name] = expected_l2_loss(
            moments[name].second_moment,
            moments[name].mean,
            layer.denoiser.weight.double(),
            None if constant is None else constant.double(),
            layer.denoiser.step,
        ).item()
    return losses


@LOOPS.register_module()
class DenoiseFitLoop(EpochBasedTrainLoop):
    """Training loop of the closed-form fit: one pass over the (unlabelled) training data, then all predictors solved.

    Use it as ``train_cfg=dict(type='reprefine.DenoiseFitLoop')``; validation and checkpoints follow as usual.
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict, val_begin: int = 1, val_interval: int = 1
    ) -> None:
        super().__init__(runner, dataloader, max_epochs=1, val_begin=val_begin, val_interval=val_interval)

    def run_epoch(self) -> None:
        """Collect the moments over one epoch, reduce them over processes and fit."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.eval()
        with collect_moments(self.runner.model) as moments:
            for index, batch in enumerate(self.dataloader):
                self.run_iter(index, batch)
        for moment in moments.values():
            moment.all_reduce()
        losses = fit_closed_form(self.runner.model, moments)
        rows = [f'  {name}: {before:.4f} -> {after:.4f}' for name, (before, after) in losses.items()]
        self.runner.logger.info('Expected L2 noise loss before and after the fit:\n' + '\n'.join(rows))
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Run the host on one batch; its labels, if any, are not used."""
        self.runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        model = unwrap(self.runner.model)
        data = model.data_preprocessor(data_batch, False)
        model(**data, mode='tensor')
        self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs={})
        self._iter += 1
