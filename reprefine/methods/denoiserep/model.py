"""Model type ``DenoiseRep``: a base model with noise predictors in its layers."""

from typing import Any, NamedTuple

import torch
from mmengine.logging import MMLogger
from torch import Tensor

from reprefine.engine.checkpoints.method_keys import added_names
from reprefine.models.refinement import Refinement
from reprefine.registry import MODELS

from .conversion.checks import check_no_momentum_encoder
from .conversion.convert import convert
from .conversion.converted import (
    ConvertedLayer,
    base_layers,
    denoise_state,
    is_reparameterized,
    reparameterize,
    sum_losses,
)
from .training.phases import check_phases, set_phase


class Options(NamedTuple):
    """Options of :class:`DenoiseRep` that are read during training.

    Attributes:
        loss_weight: Weight of the noise loss.
        label_free: Whether no task loss is computed.
        log_layers: Whether the noise loss of every layer is logged.
    """

    loss_weight: float
    label_free: bool
    log_layers: bool


@MODELS.register_module()
class DenoiseRep(Refinement):
    """A base model with noise predictors in the selected layers.

    In a config that inherits one of any OpenMMLab library::

        model = dict(
            type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.1))

    It has the parameters of the base model under their names, and those of the noise predictors,
    ``<layer>.denoiser.*``. So rules by name, such as layer-wise learning-rate decay and ``custom_keys``, apply as to
    the base model, and a baseline checkpoint loads with only the predictors missing. The options are those of
    :meth:`refine`.
    """

    option_key = 'denoise'
    requires_pretrained = 'its noise predictors learn the noise of trained features'

    def refine(
        self,
        loss_weight: float = 0.01,
        label_free: bool = False,
        phase: str = 'denoise',
        log_layers: bool = False,
        denoise_eval: bool = True,
        **convert_options: Any,
    ) -> None:
        """Convert the selected layers.

        Args:
            loss_weight: Weight of the noise loss, which is the sum over layers.
            label_free: Train without labels: the task loss is not computed, and unlabelled data are accepted.
            phase: Phase at the start of the training, and of all of it without a
                :class:`~.training.hooks.DenoisePhaseHook`.
            log_layers: Log the noise loss of every layer as ``noise/<layer>``.
            denoise_eval: Whether evaluation denoises; False evaluates the base model.
            **convert_options: Arguments of :func:`~.conversion.convert.convert`: ``include``, ``exclude``, ``timestep``
                …

        Raises:
            UserError: If the phase is unknown, or no task loss is computed although the phase or a momentum encoder
                needs it.
        """
        check_phases([phase], label_free)
        layers = convert(self, **convert_options)
        if label_free:
            check_no_momentum_encoder(
                self, 'label_free=True', "leave it out, and set phases=('denoise',) in DenoisePhaseHook"
            )
        self.denoise = Options(loss_weight, label_free, log_layers)
        state = denoise_state(self)
        state.phase, state.denoise_eval = phase, denoise_eval
        _log_report(layers)

    def init_weights(self) -> None:
        """Initialise the base model; parts that load a checkpoint of their own find the base layers."""
        with base_layers(self):
            super().init_weights()

    def forward(self, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Run the base model, with ``loss_denoise`` among its losses unless the model is reparameterised."""
        if mode == 'loss' and is_reparameterized(self):
            return super().base_losses(*args, **kwargs)
        return super().forward(*args, mode=mode, **kwargs)

    def base_losses(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the task losses, without autograd graph if only the predictors are trained."""
        state = denoise_state(self)
        if self.training and not state.trainable:
            set_phase(self, state.phase)
        trains_task = state.phase != 'denoise' and not self.denoise.label_free
        with torch.set_grad_enabled(torch.is_grad_enabled() and trains_task):
            if self.denoise.label_free:
                super().forward(*args, mode='tensor', **kwargs)
                return {}
            return super().base_losses(*args, **kwargs)

    def extra_losses(self) -> dict[str, Tensor]:
        """Return the weighted noise loss and, with ``log_layers``, the unweighted noise loss of every layer."""
        state = denoise_state(self)
        if not state.trains_predictors:
            return {}
        by_layer = state.pop_losses()
        losses = {'loss_denoise': self.denoise.loss_weight * sum_losses(by_layer)}
        if self.denoise.log_layers:
            losses |= {noise_key(name): loss.detach() for name, loss in by_layer.items()}
        return losses

    @property
    def added_keys(self) -> set[str]:
        """Names of the parameters and buffers that a baseline checkpoint lacks."""
        return added_names(self)

    def switch_to_deploy(self, *_: Any) -> None:
        """Reparameterise the denoising layers in place, then call the ``switch_to_deploy`` of the base model, if any.

        Args:
            _: Arguments that mmpose passes to every ``switch_to_deploy``; not used.
        """
        if not is_reparameterized(self):
            reparameterize(self, inplace=True)
        if callable(deploy_base := getattr(super(), 'switch_to_deploy', None)):
            deploy_base()


def noise_key(layer: str) -> str:
    """Return the log key of a layer's noise loss, without ``loss``: mmengine sums all keys that contain it."""
    return f'noise/{layer.replace("loss", "l0ss")}'


def _log_report(layers: list[ConvertedLayer]) -> None:
    rows = [
        f'  {row.name}: skipped, {row.skipped}'
        if row.skipped
        else f'  {row.name}: {row.type}, T={row.timestep}, width {row.width}, {row.side} side'
        for row in layers
    ]
    converted = sum(row.skipped is None for row in layers)
    MMLogger.get_current_instance().info(f'DenoiseRep converts {converted} layers:\n' + '\n'.join(rows))
