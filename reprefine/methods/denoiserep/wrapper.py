"""The mmengine model wrapper that denoises the features of any base model."""

from typing import Any, Self

import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from torch import Tensor, nn

from reprefine.engine.losses import rename_task_loss
from reprefine.registry import MODELS

from .convert import check_phases, convert, denoise_state, fuse, is_fused, set_phase, sum_of

_SHARED = ('_parameters', '_buffers', '_modules', '_non_persistent_buffers_set') + tuple(
    f'_{kind}_hooks' for kind in ('state_dict', 'state_dict_pre', 'load_state_dict_pre', 'load_state_dict_post')
)


@MODELS.register_module()
class DenoiseRep(BaseModel):
    """A base model whose chosen layers denoise their features.

    It holds the parameters and children of the base model as its own, under the same names. So checkpoints, rules of
    optimisers (layer-wise learning-rate decay, ``custom_keys``) and whatever else goes by name meet the base model plus
    the parameters of the noise predictors, and a baseline checkpoint loads with only the latter missing. Attributes
    that the wrapper lacks are the base model's.

    Args:
        model: Config of the base model, or the model itself.
        loss_weight: Weight of the noise loss, summed over layers.
        label_free: Train without labels: the task loss is not computed and unlabelled data are accepted.
        phase: Phase that training starts in, and stays in without a :class:`~.hooks.DenoisePhaseHook`.
        log_layers: Log the noise loss of every layer as ``noise/<layer>``.
        denoise_eval: Whether evaluation uses the denoised layers; False evaluates the plain base model.
        data_preprocessor: Preprocessor config for a base model config that has none (mmpretrain keeps it at top level).
        **convert_options: Arguments of :func:`~.convert.convert`: ``include``, ``exclude``, ``timestep`` …

    Raises:
        UserError: If the phase is unknown, or trains the backbone although no task loss is computed.
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
        check_phases([phase], label_free)
        for_model = {}  # init_model of mmseg and mmpose sets them to None; one by one, as the strict check reads keys
        if 'pretrained' in convert_options:
            for_model['pretrained'] = convert_options.pop('pretrained')
        if 'train_cfg' in convert_options:
            for_model['train_cfg'] = convert_options.pop('train_cfg')
        if isinstance(model, dict):
            if data_preprocessor is not None:
                model = {'data_preprocessor': data_preprocessor} | model
            model = MODELS.build(model | for_model)
        super().__init__(model.data_preprocessor, getattr(model, 'init_cfg', None))
        layers = convert(model, **convert_options)
        self.__dict__ |= {name: model.__dict__[name] for name in _SHARED} | {'base_model': model}
        self.loss_weight, self.label_free, self.log_layers = loss_weight, label_free, log_layers
        state = denoise_state(model)
        state.phase, state.denoise_eval = phase, denoise_eval
        _log_report(layers)

    def __getattr__(self, name: str) -> Any:
        """Look an attribute up in the wrapper, then in the base model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == 'base_model':
                raise
            return getattr(self.base_model, name)

    def init_weights(self) -> None:
        """Initialise the base model as it does it; the predictors keep what they have."""
        self.base_model.init_weights()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of wrapper and base model.

        Args:
            mode: True for training, False for evaluation.
        """
        self.training = mode
        self.base_model.train(mode)
        return self

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        self.base_model._apply(*args, **kwargs)
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        self.base_model._load_from_state_dict(*args)  # detectors of mmdet rename keys there

    def forward(self, *args: Any, mode: str = 'tensor', **kwargs: Any) -> Any:
        """Run the base model; in training add ``loss_denoise`` to its losses.

        While the predictors alone are trained the base model runs without building an autograd graph. A loss that it
        calls ``loss`` itself becomes ``loss_task``: mmengine logs the sum of all losses under the former name.
        """
        if mode != 'loss' or is_fused(self.base_model):
            return self.base_model(*args, mode=mode, **kwargs)
        state = denoise_state(self.base_model)
        if self.training and not state.trainable:
            set_phase(self.base_model, state.phase)
        with torch.set_grad_enabled(torch.is_grad_enabled() and (state.phase != 'denoise' and not self.label_free)):
            base_mode = 'tensor' if self.label_free else 'loss'
            outputs = self.base_model(*args, mode=base_mode, **kwargs)
        losses: dict[str, Tensor] = {} if self.label_free else rename_task_loss(outputs)
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
        if not is_fused(self.base_model):
            fuse(self.base_model, inplace=True)


def noise_key(layer: str) -> str:
    """Return the log key of a layer's noise loss; mmengine adds up whatever has ``loss`` in its key, so it has not."""
    return f'noise/{layer.replace("loss", "l0ss")}'


def _log_report(layers: list) -> None:
    rows = [
        f'  {row.name}: skipped, {row.skipped}'
        if row.skipped
        else f'  {row.name}: {row.type}, T={row.timestep}, width {row.width}, {row.side} side'
        for row in layers
    ]
    converted = sum(row.skipped is None for row in layers)
    MMLogger.get_current_instance().info(f'DenoiseRep converts {converted} layers:\n' + '\n'.join(rows))
