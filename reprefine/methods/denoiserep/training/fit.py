"""Closed-form fit of the noise predictors from one pass over unlabelled data, without gradient descent."""

from typing import Any

import torch
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.amp import autocast
from torch import nn
from torch.utils.data import DataLoader

from reprefine.engine.build import unwrap
from reprefine.engine.errors import UserError
from reprefine.registry import LOOPS

from ..conversion.checks import check_no_momentum_encoder
from ..conversion.converted import denoise_layers
from ..functional import expected_l2_loss
from .moments import FeatureMoments, collect_moments, set_optimal_predictor
from .selection import candidate_table, select_step


def fit_closed_form(model: nn.Module, moments: dict[str, FeatureMoments]) -> dict[str, tuple[float, float]]:
    """Set every predictor to the minimiser of its expected L2 noise loss.

    Args:
        model: Converted model.
        moments: Result of :func:`~.moments.collect_moments`, reduced over processes.

    Returns:
        Expected L2 noise loss per layer before and after.

    Raises:
        UserError: If a layer got no data.
    """
    before = expected_noise_losses(model, moments)
    for name, layer in denoise_layers(model).items():
        set_optimal_predictor(layer.denoiser, moments[name])
    after = expected_noise_losses(model, moments)
    return {name: (before[name], after[name]) for name in before}


@torch.no_grad()
def expected_noise_losses(model: nn.Module, moments: dict[str, FeatureMoments]) -> dict[str, float]:
    """Return the expected L2 noise loss by layer for features of the given moments.

    Args:
        model: Converted model.
        moments: Moments by layer, see :func:`~.moments.collect_moments`.

    Raises:
        UserError: If a layer got no data.
    """
    without_data = [name for name, m in moments.items() if m.count == 0]
    if without_data:
        raise UserError(f'no feature reached {", ".join(without_data[:5])}: exclude these layers, or check the data')
    losses = {}
    for name, layer in denoise_layers(model).items():
        constant = layer.denoiser.constant()
        losses[name] = expected_l2_loss(
            moments[name].covariance,
            moments[name].mean,
            layer.denoiser.weight.double(),
            None if constant is None else constant.double(),
            layer.denoiser.step,
        ).item()
    return losses


@LOOPS.register_module()
class DenoiseFitLoop(EpochBasedTrainLoop):
    """Training loop of the closed-form fit: one pass over the training data, then :func:`fit_closed_form`.

    Use it as ``train_cfg=dict(type='reprefine.DenoiseFitLoop')``. Labels are not used; validation and checkpoints are
    those of ``EpochBasedTrainLoop``.

    Args:
        runner: The runner.
        dataloader: Training data loader.
        token_fraction: Fraction of the positions of every feature that are used; see
            :func:`~.moments.collect_moments`.
        select: Selection of timesteps, step and layers on the validation images: the key ``metric``, the name of a
            metric of ``val_evaluator``, and arguments of :func:`~.selection.select_step`: ``timesteps``, ``steps``,
            ``layers``, ``rule``. The model has to be converted with ``step='selected'``. None for no selection.
        val_begin: First epoch (1-based) followed by a validation.
        val_interval: Epochs between validations.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        token_fraction: float = 1.0,
        select: dict[str, Any] | None = None,
        val_begin: int = 1,
        val_interval: int = 1,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs=1, val_begin=val_begin, val_interval=val_interval)
        self.token_fraction, self.select = token_fraction, select

    def run(self) -> nn.Module:
        """Run the loop without parameter schedulers, because the optimiser takes no step.

        Raises:
            UserError: If the model has a momentum encoder, which would not be updated, or the selection is incomplete.
        """
        self._check_select()
        remedy = "train with DenoisePhaseHook and phases=('denoise',), or fit a model that starts from this one"
        check_no_momentum_encoder(unwrap(self.runner.model), 'DenoiseFitLoop', remedy)
        self.runner.param_schedulers = []
        return super().run()

    def run_epoch(self) -> None:
        """Collect the moments over one epoch, reduce them over processes and fit the predictors."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.eval()
        with collect_moments(self.runner.model, self.token_fraction) as moments:
            for index, batch in enumerate(self.dataloader):
                self.run_iter(index, batch)
        for moment in moments.values():
            moment.all_reduce()
        losses = fit_closed_form(self.runner.model, moments)
        rows = [f'  {name}: {before:.4f} -> {after:.4f}' for name, (before, after) in losses.items()]
        self.runner.logger.info('Expected L2 noise loss before and after the fit:\n' + '\n'.join(rows))
        if self.select:
            self._select(moments)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _check_select(self) -> None:
        layers = denoise_layers(unwrap(self.runner.model)).values()
        if not self.select and any(layer.denoiser.is_selectable for layer in layers):
            raise UserError("step='selected' needs the candidates: set train_cfg.select of DenoiseFitLoop")
        if self.select and 'metric' not in self.select:
            raise UserError(f'train_cfg.select={self.select!r} has no metric: name one of val_evaluator')
        if self.select and self.runner.val_loop is None:
            raise UserError('train_cfg.select needs validation images: set val_dataloader, val_cfg and val_evaluator')

    def _select(self, moments: dict[str, FeatureMoments]) -> None:
        options = dict(self.select)
        metric = options.pop('metric')
        candidates = select_step(unwrap(self.runner.model), moments, lambda: _validate(self.runner, metric), **options)
        self.runner.logger.info(candidate_table(candidates, metric))

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Run the model on one batch, without its labels.

        Args:
            idx: Index of the batch.
            data_batch: Batch of the data loader.
        """
        self.runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        model = unwrap(self.runner.model)
        data = model.data_preprocessor(data_batch, False)
        model(**data, mode='tensor')
        self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs={})
        self._iter += 1


@torch.no_grad()
def _validate(runner: Runner, metric: str) -> float:
    """Return a metric of the model on the validation images; no hook is called, and nothing is logged."""
    loop = runner.val_loop
    runner.model.eval()
    for batch in loop.dataloader:
        with autocast(enabled=loop.fp16):
            outputs = runner.model.val_step(batch)
        loop.evaluator.process(data_samples=outputs, data_batch=batch)
    metrics = loop.evaluator.evaluate(len(loop.dataloader.dataset))
    if metric not in metrics:
        raise UserError(f'select.metric={metric!r} is not computed by val_evaluator: use one of {", ".join(metrics)}')
    return float(metrics[metric])
