"""Replacing convolutions of any model by disentangled ones."""

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from reprefine.deploy import relative_difference
from reprefine.engine.errors import UserError
from reprefine.models.split_batch_norm import SplitBatchNorm2d

from ..layers.conv import PDConv
from ..layers.state_dict import move_host_norms
from .example_inputs import outputs_of
from .norm_tracing import observe
from .select import Site, check_sites, find_sites

Choice = Callable[[str, nn.Conv2d], bool]
Rule = str | Sequence[str] | Choice | None


def convert_to_pd(
    model: nn.Module,
    rule: Rule = None,
    warm_start: bool | Choice = True,
    deploy: bool = False,
    example: Tensor | tuple | None = None,
    tolerance: float | None = None,
    **pd_cfg: object,
) -> list[str]:
    """Replace convolutions of ``model``, in place, each together with the batch norm behind it.

    A forward pass in evaluation mode shows which norm follows which convolution. One that is applied after an
    activation, before the convolution, or to anything else as well stays where it is.

    Args:
        model: Any module, such as a network of OpenMMLab, torchvision or timm.
        rule: Which: regular expressions on names (one that matches anywhere in the name suffices), or a function of
            name and convolution. None takes every ungrouped 3x3 convolution with a batch norm behind it. Only
            a rule reaches other sizes, grouped convolutions and those without norm, such as a detector's heads.
        warm_start: Keep the output: the convolution and its norm become the first branch, the others start at zero.
            A function of name and convolution chooses for which. The outputs before and after are compared if the
            model runs on ``example`` and all are kept.
        deploy: Build the deployed form, into which a training checkpoint can be loaded.
        example: Input of the model, a tuple for several; None tries random images.
        tolerance: Largest difference of an output that counts as rounding, relative to its largest value; None for
            the square root of the resolution of the model's type (3e-4 in float32).
        **pd_cfg: Arguments of :class:`~.conv.PDConv`: ``mode``, ``branches``, ``group_num``, ``reduction``, ….

    Returns:
        Names of the replaced convolutions.

    Raises:
        UserError: If the rule matches nothing, a convolution cannot be disentangled as asked, its norm cannot be told,
            or the output of a warm start differs. The model then is what it was.
    """
    seen = observe(model, example)
    sites = list(find_sites(model, seen.norms))
    chosen = [site for site in sites if _matches(site, rule)]
    if not chosen:
        names = ', '.join(site.name for site in sites[:3]) or 'none'
        kind = ' (ungrouped 3x3 convolutions whose output a batch norm alone reads)' if rule is None else ''
        raise UserError(
            f'no convolution can be disentangled with rule={rule!r}{kind}; candidates of the model: {names}'
        )
    check_sites(model, chosen, seen.failure)
    replacements = [(site, _replacement(site, deploy, pd_cfg)) for site in chosen]
    warm = [warm_start(site.name, site.conv) if callable(warm_start) else warm_start for site in chosen]
    before = outputs_of(model, seen.call) if all(warm) and seen.call else []
    former = [(site, _replace(site, conv, keep)) for (site, conv), keep in zip(replacements, warm, strict=True)]
    try:
        _check_outputs(before, outputs_of(model, seen.call) if before else [], tolerance)
    except UserError:
        for site, modules in former:
            for name, module in modules.items():
                setattr(site.parent, name, module)
        raise
    for site in chosen:
        if site.norm is not None and move_host_norms not in _hooks(site.parent):
            site.parent.register_load_state_dict_pre_hook(move_host_norms)
    return [site.name for site in chosen]


def _replace(site: Site, conv: PDConv, warm_start: bool) -> dict[str, nn.Module]:
    """Put ``conv`` in place of the convolution and its norm, and return these by their names in the parent."""
    former = {name: getattr(site.parent, name) for name in (site.attribute, site.norm) if name is not None}
    if warm_start:
        conv.load_state_dict(_plain_state(site))
    setattr(site.parent, site.attribute, conv)
    if site.norm is not None:
        setattr(site.parent, site.norm, nn.Identity())
    return former


def _check_outputs(before: Sequence[Tensor], after: Sequence[Tensor], tolerance: float | None) -> None:
    """Refuse outputs that differ beyond rounding."""
    for reference, output in zip(before, after, strict=True):
        if reference.is_meta or not reference.numel():
            continue
        allowed = torch.finfo(reference.dtype).eps ** 0.5 if tolerance is None else tolerance
        difference = relative_difference(output, reference)
        if not difference <= allowed:
            raise UserError(
                f'the converted model differs from the plain one by {difference:.1e} of the largest output, more than '
                f'{allowed:.1e}: leave the cause out by the rule, give a larger tolerance, or set warm_start=False'
            )


def _hooks(module: nn.Module) -> list[Callable]:
    return [hook.hook for hook in module._load_state_dict_pre_hooks.values()]


def _matches(site: Site, rule: Rule) -> bool:
    conv = site.conv
    if rule is None:
        may_have_norm = site.norm is not None or not site.is_decided
        return may_have_norm and conv.groups == 1 and conv.kernel_size == (3, 3)
    if callable(rule):
        return rule(site.name, conv)
    return any(re.search(pattern, site.name) for pattern in ([rule] if isinstance(rule, str) else rule))


def _replacement(site: Site, deploy: bool, pd_cfg: dict) -> PDConv:
    host = site.conv
    geometry = host.kernel_size, host.stride, host.padding, host.dilation, host.groups
    options = pd_cfg | dict(norm_cfg=_norm_cfg(site, pd_cfg.get('norm_cfg')), deploy=deploy)
    try:
        conv = PDConv(host.in_channels, host.out_channels, *geometry, host.bias is not None, **options)
    except UserError as error:
        raise UserError(f'{site.name} cannot be disentangled: {error}') from error
    conv.host_norm = site.norm
    return conv.to(host.weight).train(host.training)


def _norm_cfg(site: Site, norm_cfg: dict | None) -> dict:
    """Return the config of norms that behave as the one they replace, without which the output would not stay."""
    if site.norm is None:
        return norm_cfg or dict(type='BN')
    norm = getattr(site.parent, site.norm)
    kind = dict(type='SyncBN' if isinstance(norm, nn.SyncBatchNorm) else 'BN')
    if isinstance(norm, SplitBatchNorm2d):
        kind = dict(type='reprefine.SplitBN', num_splits=norm.num_splits)
    requires_grad = dict(requires_grad=norm.weight.requires_grad)
    return kind | requires_grad | (norm_cfg or {}) | dict(eps=norm.eps, momentum=norm.momentum)


def _plain_state(site: Site) -> dict[str, Tensor]:
    state = dict(site.conv.state_dict())
    if site.norm is not None:
        state |= {f'norm.{key}': value for key, value in getattr(site.parent, site.norm).state_dict().items()}
    return state
