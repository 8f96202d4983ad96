"""PDResNet, the ResNet of mmpretrain, mmdet, mmseg or mmpose with PD convolutions."""

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import LIBRARIES, MODELS

from .attention_blocks.placement import BlockAttentionMixin, ResNetAttentionMixin
from .conversion.convert import convert_to_pd
from .layers.conv import PDConv

# Arguments of PDResNet that the ResNet of the host library lacks.
_PD_KEYS = (
    'pd_cfg',
    'attention',
    'attention_stages',
    'attention_blocks',
    'attention_position',
    'deploy',
    'channels_last',
    'host',
)


@functools.cache
def _resnet_class(host: str) -> type:
    """Return the subclass of PDResNet that extends the ResNet of a host library."""
    base = importlib.import_module(f'{host}.models.backbones.resnet').ResNet
    blocks = {block for block, _ in base.arch_settings.values()}
    extended = {block: type(block.__name__, (BlockAttentionMixin, block), {}) for block in blocks}
    settings = {depth: (extended[block], counts) for depth, (block, counts) in base.arch_settings.items()}
    return type(f'PDResNet_{host}', (PDResNet, ResNetAttentionMixin, base), dict(arch_settings=settings))


def _default_host() -> str:
    """Return the host library of the default scope, or the first installed one."""
    scope = DefaultScope.get_current_instance()
    if scope is not None and scope.scope_name in LIBRARIES:
        return scope.scope_name
    for host in ('mmpretrain', 'mmdet', 'mmseg', 'mmpose'):
        if importlib.util.find_spec(host):
            return host
    raise UserError(
        'PDResNet extends the ResNet of mmpretrain, mmdet, mmseg or mmpose, and none is installed: install one'
    )


def baseline_resnet_config(cfg: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the host library's ResNet that equals a deployed PD-A PDResNet.

    Args:
        cfg: Config of the PDResNet.

    Raises:
        UserError: If the config has attention blocks, which cannot be reparameterised.
    """
    if cfg.get('attention') is not None:
        raise UserError(
            f'attention={cfg["attention"]!r} of PDResNet cannot be reparameterised into a ResNet: use the deployed form'
        )
    host = cfg.get('host')
    rest = {key: value for key, value in cfg.items() if key not in _PD_KEYS}
    return rest | dict(type=f'{host}.ResNet' if host else 'ResNet')


@MODELS.register_module()
class PDResNet(nn.Module):
    """ResNet with PD convolutions in place of the 3x3 convolutions of the residual blocks and their norms.

    It extends the ResNet of the host library of the default scope and has its arguments and defaults, except
    ``zero_init_residual=False`` as in the paper. A config sets ``type='reprefine.PDResNet'`` and ``pd_cfg``. The names
    of all other parameters are unchanged, and a checkpoint of the ResNet loads with unchanged output.

    Attention blocks: ``attention=dict(type='reprefine.SEBlock', ...)`` inserts a module after the last norm of every
    residual branch, before the addition. It is built with ``in_channels`` and maps ``[N, C, H, W]`` to the same shape;
    its parameters are named ``layer1.0.attention.*``.

    Args:
        *args: Arguments of the host library's ResNet.
        pd_cfg: Arguments of :class:`~.layers.conv.PDConv` (``mode``, ``branches``, ``group_num``, ``reduction``,
            ``execution``, ``compute``); None: no PD convolutions.
        attention: Config of an attention block for the residual branches.
        attention_stages: Whether each stage gets the block; None: all stages.
        attention_blocks: Indices of the residual blocks of a stage that get it, negative ones from the end; None: all.
        attention_position: ``'after_conv1'``, ``'after_conv2'`` or ``'after_conv3'``: after the norm of that
            convolution, before the activation. None: after the last norm.
        deploy: Whether to build the deployed form.
        zero_init_residual: Whether to initialise the last norm of every residual branch with zero.
        channels_last: Whether to train in the memory format channels last; the outputs are contiguous. Whether it is
            faster depends on device and shapes, see ``tools/analysis_tools/bench_pddr_conv.py``.
        host: Host library; None: that of the default scope.
        **kwargs: Arguments of the host library's ResNet.
    """

    baseline_config = staticmethod(baseline_resnet_config)

    @property
    def requires_pretrained(self) -> str | None:
        """Why the model needs trained weights, see :mod:`reprefine.engine.checkpoints.random_init_warning`."""
        return 'norm_eval keeps the running statistics of its norms at their initial values' if self.norm_eval else None

    def __new__(cls, *args: Any, host: str | None = None, **kwargs: Any) -> 'PDResNet':
        """Return an instance of the subclass that extends the host library's ResNet."""
        return super().__new__(cls if cls is not PDResNet else _resnet_class(host or _default_host()))

    def __init__(
        self,
        *args: Any,
        pd_cfg: dict | None = None,
        attention: dict | None = None,
        attention_stages: Sequence[bool] | None = None,
        attention_blocks: Sequence[int] | None = None,
        attention_position: str | None = None,
        deploy: bool = False,
        zero_init_residual: bool = False,
        channels_last: bool = False,
        host: str | None = None,
        **kwargs: Any,
    ):
        # Needed by make_res_layer in the constructor below, before nn.Module can set attributes.
        object.__setattr__(self, 'attention', attention)
        object.__setattr__(self, 'attention_stages', attention_stages)
        object.__setattr__(self, 'attention_blocks', attention_blocks)
        object.__setattr__(self, 'attention_position', attention_position)
        super().__init__(*args, zero_init_residual=False, **kwargs)
        self.zero_init_residual = zero_init_residual
        if pd_cfg is not None:
            if 'deploy' in pd_cfg:
                raise UserError('pd_cfg has the key deploy, an argument of PDResNet: set deploy=True beside pd_cfg')
            pd_cfg = dict(norm_cfg=self.norm_cfg) | pd_cfg
            convert_to_pd(self, _is_block_conv, warm_start=False, deploy=deploy, **pd_cfg)
            self._freeze_stages()
        self.channels_last = channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def init_weights(self) -> None:
        """Initialise as the ResNet does, then zero the last norms if ``zero_init_residual``."""
        zero_init, self.zero_init_residual = self.zero_init_residual, False
        super().init_weights()
        self.zero_init_residual = zero_init
        is_pretrained = isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained'
        if not zero_init or is_pretrained:
            return
        for block in self.modules():
            if isinstance(block, BlockAttentionMixin):
                _zero_init_last_norms(block)

    def train(self, mode: bool = True) -> 'PDResNet':
        """Set the mode and return the network, as ``nn.Module.train`` does; the host libraries' ``train`` returns None.

        Args:
            mode: Training mode if true, else evaluation mode.
        """
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map images ``[N, 3, H, W]`` to the feature maps of the stages in ``out_indices``, each ``[N, C, H', W']``."""
        if not (self.training and self.channels_last):
            return super().forward(x)
        maps = super().forward(x.contiguous(memory_format=torch.channels_last))
        return tuple(y.contiguous() for y in maps)

    def switch_to_deploy(self, *_: Any) -> None:
        """Reparameterise every PD convolution in place; does nothing to a deployed network.

        Args:
            *_: Arguments that mmpose passes, not used.
        """
        for module in self.modules():
            if isinstance(module, PDConv):
                module.switch_to_deploy()


def _is_block_conv(name: str, conv: nn.Conv2d) -> bool:
    return name.startswith('layer') and 'downsample' not in name and conv.kernel_size == (3, 3)


def _zero_init_last_norms(block: BlockAttentionMixin) -> None:
    conv = block.last_conv
    norms = [getattr(block, block.last_norm_name)]
    if isinstance(conv, PDConv):
        norms = [] if conv.deploy else [part.bn for _, part in conv.conv_norms()]
    for norm in norms:
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
