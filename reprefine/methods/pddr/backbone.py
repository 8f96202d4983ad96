"""ResNet with disentangled convolutions, for every host library."""

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import HOSTS, MODELS

from .attention_blocks.placement import AttentiveBlock, AttentiveResNet
from .conversion.convert import convert_to_pd
from .layers.conv import PDConv

# Arguments of PDResNet that the ResNet of a host lacks.
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
def _refined(host: str) -> type:
    """Return the ResNet of a host library, able to hold attention."""
    base = importlib.import_module(f'{host}.models.backbones.resnet').ResNet
    blocks = {block for block, _ in base.arch_settings.values()}
    refined = {block: type(block.__name__, (AttentiveBlock, block), {}) for block in blocks}
    settings = {depth: (refined[block], counts) for depth, (block, counts) in base.arch_settings.items()}
    return type(f'PDResNet_{host}', (PDResNet, AttentiveResNet, base), dict(arch_settings=settings))


def _host_library() -> str:
    """Return the host library of the default scope, else the first that is installed."""
    scope = DefaultScope.get_current_instance()
    if scope is not None and scope.scope_name in HOSTS:
        return scope.scope_name
    for host in ('mmpretrain', 'mmdet', 'mmseg', 'mmpose'):
        if importlib.util.find_spec(host):
            return host
    raise UserError('PDResNet builds on the ResNet of mmpretrain, mmdet, mmseg or mmpose: install one of them')


def plain_resnet(cfg: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the host's ResNet for one of PDResNet.

    Raises:
        UserError: If the blocks have attention modules, which stay in the model.
    """
    if cfg.get('attention') is not None:
        raise UserError(f'attention={cfg["attention"]!r} of PDResNet does not fold: no plain ResNet equals it')
    host = cfg.get('host')
    rest = {key: value for key, value in cfg.items() if key not in _PD_KEYS}
    return rest | dict(type=f'{host}.ResNet' if host else 'ResNet')


@MODELS.register_module()
class PDResNet(nn.Module):
    """ResNet whose 3x3 convolutions of the residual blocks are disentangled, each together with its norm.

    It is the ResNet of the library whose config builds it (of the default scope), with that library's arguments and
    defaults except ``zero_init_residual=False``, as the paper trains it: in a config, ``type='reprefine.PDResNet'``
    and ``pd_cfg`` are all that changes. Names of parameters that are not replaced stay, so a checkpoint of the plain
    ResNet loads with unchanged output.

    Comparison modules: ``attention=dict(type='reprefine.SEBlock', ...)`` puts a module after the last norm of every
    residual branch, before the addition. It is built with ``in_channels`` and called on ``[N, C, H, W]``; its
    parameters are named ``layer1.0.attention.*``. Stages, blocks and position can be chosen.

    Args:
        *args: Arguments of the host's ResNet.
        pd_cfg: Arguments of :class:`~.conv.PDConv` (``mode``, ``branches``, ``group_num``, ``reduction``,
            ``execution``, ``compute``); None leaves all convolutions plain.
        attention: Config of a module for the residual branches.
        attention_stages: Whether each stage gets it, default all.
        attention_blocks: Indices of the blocks of a stage that get it, negative ones from the end, default all.
        attention_position: ``'after_conv1'``, ``'after_conv2'`` or ``'after_conv3'``: after the norm of that
            convolution, before the activation. ``'after_conv2'`` is at bottleneck width in a ``Bottleneck``. Default:
            after the last norm.
        deploy: Build the deployed form.
        zero_init_residual: Let residual branches start at zero.
        channels_last: Train in the memory format of channels last; outputs keep the common one. Worth measuring
            (``tools/analysis_tools/bench_pddr_conv.py``): whether it is faster depends on device and shapes.
        host: Host library, default that of the default scope.
        **kwargs: Arguments of the host's ResNet.
    """

    baseline_config = staticmethod(plain_resnet)

    @property
    def requires_pretrained(self) -> str | None:
        """Why random weights do not do, see :mod:`reprefine.engine.checkpoints.random_init_warning`."""
        return 'norm_eval keeps the statistics of its norms as they start' if self.norm_eval else None

    def __new__(cls, *args: Any, host: str | None = None, **kwargs: Any) -> 'PDResNet':
        """Make an instance of the subclass that extends the host's ResNet."""
        return super().__new__(cls if cls is not PDResNet else _refined(host or _host_library()))

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
        # The host's constructor builds the blocks, before which no attribute can be set on a module.
        object.__setattr__(self, 'attention', attention)
        object.__setattr__(self, 'attention_stages', attention_stages)
        object.__setattr__(self, 'attention_blocks', attention_blocks)
        object.__setattr__(self, 'attention_position', attention_position)
        super().__init__(*args, zero_init_residual=False, **kwargs)
        self.zero_init_residual = zero_init_residual
        if pd_cfg is not None:
            if 'deploy' in pd_cfg:
                raise UserError('pd_cfg: deploy is an argument of PDResNet itself, deploy=True beside pd_cfg')
            pd_cfg = dict(norm_cfg=self.norm_cfg) | pd_cfg
            convert_to_pd(self, _is_block_conv, warm_start=False, deploy=deploy, **pd_cfg)
            self._freeze_stages()
        self.channels_last = channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def init_weights(self) -> None:
        """Initialise as the host does, then let residual branches start at zero if asked to."""
        wanted, self.zero_init_residual = self.zero_init_residual, False
        super().init_weights()
        self.zero_init_residual = wanted
        is_pretrained = isinstance(self.init_cfg, dict) and self.init_cfg['type'] == 'Pretrained'
        if not wanted or is_pretrained:
            return
        for block in self.modules():
            if isinstance(block, AttentiveBlock):
                _zero(block)

    def train(self, mode: bool = True) -> 'PDResNet':
        """Set the mode and return the network, as torch does and the hosts' own ``train`` does not.

        Args:
            mode: True for training, False for evaluation.
        """
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the feature maps of the stages asked for, each ``[N, C, H, W]``."""
        if not (self.training and self.channels_last):
            return super().forward(x)
        maps = super().forward(x.contiguous(memory_format=torch.channels_last))
        return tuple(y.contiguous() for y in maps)

    def switch_to_deploy(self, *_: Any) -> None:
        """Fold every disentangled convolution in place; a deployed network stays as it is.

        Args:
            _: What mmpose hands to every part that it deploys, not needed here.
        """
        for module in self.modules():
            if isinstance(module, PDConv):
                module.switch_to_deploy()


def _is_block_conv(name: str, conv: nn.Conv2d) -> bool:
    return name.startswith('layer') and 'downsample' not in name and conv.kernel_size == (3, 3)


def _zero(block: AttentiveBlock) -> None:
    conv = block.last_conv
    norms = [getattr(block, block.last_norm_name)]
    if isinstance(conv, PDConv):
        norms = [] if conv.deploy else [leaf.bn for _, leaf in conv.leaves()]
    for norm in norms:
        nn.init.zeros_(norm.weight)
        nn.init.zeros_(norm.bias)
