"""The base model whose layers denoise their features."""

from typing import Any, NamedTuple

import torch
from mmengine.logging import MMLogger
from torch import Tensor

from reprefine.engine.checkpoints.method_keys import added_names
from reprefine.models.refinement import Refinement
from reprefine.registry import MODELS

from .conversion.convert import convert
from .conversion.converted import ConvertedLayer, denoise_state, fuse, is_fused, sum_of
from .conversion.plain import plain_layers
from .conversion.refusals import refuse_followers
from .training.phases import check_phases, set_phase


class Options(NamedTuple):
    """What :class:`DenoiseRep` keeps of its options.

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
    """A model whose chosen layers denoise their features.

    In a config, over an inherited one of any host library::

        model = dict(
            type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include='mlp', loss_weight=0.1))

    It is the base model with the parameters of the noise predictors added, ``<layer>.denoiser.*``. So checkpoints,
    rules of optimisers (layer-wise learning-rate decay, ``custom_keys``) and whatever else goes by name meet the base
    model, and a baseline checkpoint loads with only the predictors missing. The options are those of :meth:`refine`.
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
        """Convert the chosen layers.

        Args:
            loss_weight: Weight of the noise loss, summed over layers.
            label_free: Train without labels: the task loss is not computed and unlabelled data are accepted.
            phase: Phase that training starts in, and stays in without a :class:`~.hooks.DenoisePhaseHook`.
            log_layers: Log the noise loss of every layer as ``noise/<layer>``.
            denoise_eval: Whether evaluation uses the denoised layers; False evaluates the plain base model.
            **convert_options: Arguments of :func:`~.convert.convert`: ``include``, ``exclude``, ``timestep`` …

        Raises:
            UserError: If the phase is unknown, or trains the backbone although no task loss is computed, or a momentum
                encoder would need that loss.
        """
        check_phases([phase], label_free)
        layers = convert(self, **convert_options)
        if label_free:
            refuse_followers(self, 'label_free=True', "leave it out, and set phases=('denoise',) in DenoisePhaseHook")
        self.denoise = Options(loss_weight, label_free, log_layers)
        state = denoise_state(self)
        state.phase, state.denoise_eval = phase, denoise_eval
        _log_report(layers)

    def init_weights(self) -> None:
        """Initialise the base model; parts that load a checkpoint of their own find the layers that it has."""
        with plain_layers(self):
            super().init_weights()

    def forward(self, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Run the base model; in training add ``loss_denoise`` to its losses. Folded, it is the base model."""
        if mode == 'loss' and is_fused(self):
            return super().base_losses(*args, **kwargs)
        return super().forward(*args, mode=mode, **kwargs)

    def base_losses(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the task losses; while the predictors alone are trained, no autograd graph is built for them."""
        state = denoise_state(self)
        if self.training and not state.trainable:
            set_phase(self, state.phase)
        learns_task = state.phase != 'denoise' and not self.denoise.label_free
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns_task):
            if self.denoise.label_free:
                super().forward(*args, mode='tensor', **kwargs)
                return {}
            return super().base_losses(*args, **kwargs)

    def extra_losses(self) -> dict[str, Tensor]:
        """Return the weighted noise loss, and with ``log_layers`` that of every layer, unweighted."""
        state = denoise_state(self)
        if not state.learns_noise:
            return {}
        by_layer = state.take()
        losses = {'loss_denoise': self.denoise.loss_weight * sum_of(by_layer)}
        if self.denoise.log_layers:
            losses |= {noise_key(name): loss.detach() for name, loss in by_layer.items()}
        return losses

    @property
    def added_keys(self) -> set[str]:
        """Names of the parameters and buffers that a baseline checkpoint cannot hold."""
        return added_names(self)

    def switch_to_deploy(self, *_: Any) -> None:
        """Fold every noise predictor into its layer, in place, then do what the base model does to be deployed.

        Args:
            _: What mmpose hands to every part that it deploys, not needed here.
        """
        if not is_fused(self):
            fuse(self, inplace=True)
        if callable(deploy_base := getattr(super(), 'switch_to_deploy', None)):
            deploy_base()


def noise_key(layer: str) -> str:
    """Return the log key of a layer's noise loss; mmengine adds up whatever has ``loss`` in its key, so it has not."""
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
