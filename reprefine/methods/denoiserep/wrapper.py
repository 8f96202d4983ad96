"""The mmengine model wrapper that denoises any host model."""

from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from torch import Tensor, nn

from reprefine.registry import MODELS

from .convert import convert, denoise_state, fuse, is_converted, sum_of


@MODELS.register_module()
class DenoiseRep(BaseModel):
    """A host model whose chosen layers denoise their features.

    State dicts carry the host's own key names plus the keys of the predictors, so a baseline checkpoint loads into the
    wrapper with only predictor keys missing. Attributes the wrapper lacks are the host's.

    Args:
        model: Config of the host model, or the model itself.
        loss_weight: Weight of the noise loss, summed over layers.
        label_free: Train without labels: the task loss is not computed and unlabelled data are accepted.
        phase: Phase to start in, for runs without a :class:`~.hooks.DenoisePhaseHook`.
        log_layers: Log the noise loss of every layer as ``noise/<layer>``.
        denoise_eval: Whether evaluation uses the denoised layers; False evaluates the plain host.
        data_preprocessor: Preprocessor config for a host config that has none (mmpretrain keeps it at top level).
        **convert_options: Arguments of :func:`~.convert.convert`: ``include``, ``exclude``, ``timestep`` …
    """

    presumes_trained = 'its noise predictors learn the noise of trained features'

    def __init__(
        self,
        model: dict | nn.Module,
        loss_weight: float = 0.01,
        label_free: bool = False,
        phase: str = 'denoise',
        log_layers: bool = False,
        denoise_eval: bool = True,
        data_preprocessor: dict | None = None,
        **convert_options: Any,
    ) -> None:
        if isinstance(model, dict):
            if data_preprocessor is not None:
                model = {'data_preprocessor': data_preprocessor} | model
            model = MODELS.build(model)
        super().__init__(data_preprocessor=model.data_preprocessor)
        del self._modules['data_preprocessor']  # reached through the host, so that it is not stored twice
        self.model = model
        self.loss_weight, self.label_free, self.log_layers = loss_weight, label_free, log_layers
        layers = convert(model, **convert_options)
        state = denoise_state(model)
        state.phase, state.denoise_eval = phase, denoise_eval
        self.register_state_dict_post_hook(_drop_host_prefix)
        self.register_load_state_dict_pre_hook(_add_host_prefix)
        _log_report(layers)

    def __getattr__(self, name: str) -> Any:
        """Look an attribute up in the wrapper, then in the host."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'model':
                raise
            return getattr(self.model, name)

    def forward(self, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Run the host; in training add ``loss_denoise`` to its losses.

        While the predictors alone are trained the host runs without building an autograd graph.
        """
        if mode != 'loss' or not is_converted(self.model):
            return self.model(*args, mode=mode, **kwargs)
        state = denoise_state(self.model)
        with torch.set_grad_enabled(torch.is_grad_enabled() and (state.phase != 'denoise' and not self.label_free)):
            host_mode = 'tensor' if self.label_free else 'loss'
            outputs = self.model(*args, mode=host_mode, **kwargs)
        losses: dict[str, Tensor] = {} if self.label_free else dict(outputs)
        if state.learns_noise:
            by_layer = state.take()
            losses['loss_denoise'] = self.loss_weight * sum_of(by_layer)
            if self.log_layers:
                losses |= {noise_key(name): loss.detach() for name, loss in by_layer.items()}
        return losses

    @property
    def added_keys(self) -> set[str]:
        """Names of the parameters and buffers that a baseline checkpoint cannot hold."""
        named = (*self.named_parameters(), *self.named_buffers())
        return {name for name, _ in named if '.denoiser.' in name}

    def switch_to_deploy(self) -> None:
        """Fold every denoiser into its layer, in place; nothing happens to a folded model."""
        if is_converted(self.model):
            fuse(self.model, inplace=True)


def noise_key(layer: str) -> str:
    """Return the log key of a layer's noise loss; mmengine adds up whatever has ``loss`` in its key, so it has not."""
    return f'noise/{layer.replace("loss", "l0ss")}'


def _drop_host_prefix(module: nn.Module, state_dict: dict, prefix: str, _: dict) -> None:
    inner = f'{prefix}model.'
    for key in [key for key in state_dict if key.startswith(inner)]:
        state_dict[prefix + key[len(inner) :]] = state_dict.pop(key)


def _add_host_prefix(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    for key in [key for key in state_dict if key.startswith(prefix)]:
        state_dict[f'{prefix}model.{key[len(prefix) :]}'] = state_dict.pop(key)


def _log_report(layers: list) -> None:
    rows = [
        f'  {row.name}: skipped, {row.skipped}'
        if row.skipped
        else f'  {row.name}: {row.type}, T={row.timestep}, width {row.width}, {row.side} side'
        for row in layers
    ]
    converted = sum(row.skipped is None for row in layers)
    MMLogger.get_current_instance().info(f'DenoiseRep converts {converted} layers:\n' + '\n'.join(rows))
