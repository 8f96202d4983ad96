"""Replacing convolutions of any model by disentangled ones."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .conv import PDConv
from .loading import move_host_norms

Rule = str | Sequence[str] | Callable[[str, nn.Conv2d], bool] | None


@dataclass(frozen=True)
class Site:
    """A convolution that can be replaced.

    Attributes:
        name: Its name in the model.
        parent: Module that holds it.
        attribute: Its name in the parent.
        norm: Name in the parent of the batch norm behind it, None if there is none.
    """

    name: str
    parent: nn.Module
    attribute: str
    norm: str | None

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return getattr(self.parent, self.attribute)


def find_sites(model: nn.Module, prefix: str = '') -> Iterator[Site]:
    """Yield the square, odd convolutions above 1x1 with zero padding that reaches, each with its batch norm, in order.

    A norm belongs to the convolution registered directly before it under the same parent, as ``conv1`` and ``bn1`` of
    residual blocks, the parts of a ``ConvModule`` and the neighbours in an ``nn.Sequential`` are.

    Args:
        model: Any module.
        prefix: What goes before the names, with a final dot.
    """
    children = [*model.named_children(), ('', None)]
    for (name, child), (next_name, following) in zip(children, children[1:], strict=False):
        if _is_eligible(child):
            is_norm = isinstance(following, _BatchNorm) and following.num_features == child.out_channels
            in_order = not isinstance(model, ConvModule) or model.order[:2] == ('conv', 'norm')
            yield Site(f'{prefix}{name}', model, name, next_name if is_norm and in_order else None)
        elif not isinstance(child, PDConv):
            yield from find_sites(child, f'{prefix}{name}.')


def _is_eligible(conv: nn.Module) -> bool:
    if type(conv) is not nn.Conv2d or conv.padding_mode != 'zeros' or isinstance(conv.padding, str):
        return False
    size = conv.kernel_size
    reaches = all(p >= d * (k // 2) for p, d, k in zip(conv.padding, conv.dilation, size, strict=True))
    return size[0] == size[1] > 1 and size[0] % 2 == 1 and reaches


def convert_to_pd(
    model: nn.Module, rule: Rule = None, warm_start: bool = True, deploy: bool = False, **pd_cfg: object
) -> list[str]:
    """Replace convolutions of ``model``, in place, each together with the batch norm behind it.

    Args:
        model: Any module, such as a network of OpenMMLab, torchvision or timm.
        rule: Which: regular expressions on names (one that matches anywhere in the name suffices), or a function of
            name and convolution. None takes every ungrouped 3x3 convolution with a batch norm behind it. Only
            a rule reaches other sizes, grouped convolutions and those without norm, such as a detector's heads.
        warm_start: Keep the output: the convolution and its norm become the first branch, the others start at zero.
        deploy: Build the deployed form, into which a training checkpoint can be loaded.
        **pd_cfg: Arguments of :class:`~.conv.PDConv`: ``mode``, ``branches``, ``group_num``, ``reduction``, ….

    Returns:
        Names of the replaced convolutions.

    Raises:
        UserError: If the rule matches nothing, or a convolution cannot be disentangled as asked.
    """
    sites = list(find_sites(model))
    chosen = [site for site in sites if _matches(site, rule)]
    if not chosen:
        names = ', '.join(site.name for site in sites[:3]) or 'none'
        raise UserError(f'no convolution can be disentangled with rule={rule!r}; candidates of the model: {names}')
    for site, conv in [(site, _replacement(site, deploy, pd_cfg)) for site in chosen]:
        if warm_start:
            conv.load_state_dict(_plain_state(site))
        setattr(site.parent, site.attribute, conv)
        if site.norm is not None:
            setattr(site.parent, site.norm, nn.Identity())
            if move_host_norms not in _hooks(site.parent):
                site.parent.register_load_state_dict_pre_hook(move_host_norms)
    return [site.name for site in chosen]


def _hooks(module: nn.Module) -> list[Callable]:
    return [hook.hook for hook in module._load_state_dict_pre_hooks.values()]


def _matches(site: Site, rule: Rule) -> bool:
    conv = site.conv
    if rule is None:
        return site.norm is not None and conv.groups == 1 and conv.kernel_size == (3, 3)
    if callable(rule):
        return rule(site.name, conv)
    return any(re.search(pattern, site.name) for pattern in ([rule] if isinstance(rule, str) else rule))


def _replacement(site: Site, deploy: bool, pd_cfg: dict) -> PDConv:
    host = site.conv
    geometry = host.kernel_size, host.stride, host.padding, host.dilation, host.groups
    options = pd_cfg | dict(norm_cfg=_norm_cfg(site, pd_cfg.get('norm_cfg')), deploy=deploy)
    try:
        conv = PDConv(host.in_channels, host.out_channels, *geometry, host.bias is not None, **options)
    except ValueError as error:
        raise UserError(f'{site.name} cannot be disentangled: {error}') from error
    conv.host_norm = site.norm
    return conv.to(host.weight).train(host.training)


def _norm_cfg(site: Site, norm_cfg: dict | None) -> dict:
    """Return the config of norms that behave as the one they replace, without which the output would not stay."""
    if site.norm is None:
        return norm_cfg or dict(type='BN')
    norm = getattr(site.parent, site.norm)
    kind = dict(type='SyncBN' if isinstance(norm, nn.SyncBatchNorm) else 'BN', requires_grad=norm.weight.requires_grad)
    return kind | (norm_cfg or {}) | dict(eps=norm.eps, momentum=norm.momentum)


def _plain_state(site: Site) -> dict[str, torch.Tensor]:
    state = dict(site.conv.state_dict())
    if site.norm is not None:
        state |= {f'norm.{key}': value for key, value in getattr(site.parent, site.norm).state_dict().items()}
    return state


@MODELS.register_module(name='PDConverted')
def build_converted(module: dict, rule: Rule = None, deploy: bool = False, **pd_cfg: object) -> nn.Module:
    """Build a module of a config and disentangle its convolutions: a whole model, a backbone, a neck or a head.

    What comes back is the module itself, so names and interface stay. Weights of a plain checkpoint
    (``init_cfg=dict(type='Pretrained', ...)``) load with unchanged output.

    Args:
        module: Config of the host module.
        rule: As in :func:`convert_to_pd`.
        deploy: Build the deployed form.
        **pd_cfg: Arguments of :class:`~.conv.PDConv`.
    """
    host = MODELS.build(module)
    convert_to_pd(host, rule, warm_start=False, deploy=deploy, **pd_cfg)
    return host
