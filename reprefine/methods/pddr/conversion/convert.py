"""Replaces convolutions of any model by PDConv."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.deploy import relative_difference
from reprefine.engine.errors import UserError
from reprefine.models.split_batch_norm import SplitBatchNorm2d

from ..layers.conv import PDConv
from ..layers.state_dict import NORM_PREFIX, move_replaced_norms
from .example_inputs import float_outputs
from .norm_tracing import trace_norms
from .select import ConvCandidate, check_candidates, find_candidates

NameFilter = Callable[[str, nn.Conv2d], bool]
Rule = str | Sequence[str] | NameFilter | None


def convert_to_pd(
    model: nn.Module,
    rule: Rule = None,
    warm_start: bool | NameFilter = True,
    deploy: bool = False,
    example: Tensor | tuple | None = None,
    tolerance: float | None = None,
    **pd_cfg: object,
) -> list[str]:
    """Replace convolutions of ``model`` by PDConv, in place, each together with the batch norm that follows it.

    The norms are found by tracing a forward pass in evaluation mode. A norm that does not directly follow the
    convolution, or has other inputs as well, is not replaced.

    Args:
        model: Any module, such as a network of OpenMMLab, torchvision or timm.
        rule: Convolutions to replace: regular expressions, of which one must match (``re.search``) the name, or a
            function of name and convolution. None: every ungrouped 3x3 convolution followed by a batch norm. Other
            kernel sizes, grouped convolutions and those without norm, as in detection heads, need a rule.
        warm_start: Whether to keep the output: the convolution and its norm become ``standard1``, and the other
            branches get zero output. A function of name and convolution decides for each. If all keep it and the model
            runs on ``example``, the outputs before and after are compared.
        deploy: Whether to build the deployed form, which can load a checkpoint of the training form.
        example: Input of the model, a tuple for several inputs; None tries random images.
        tolerance: Largest allowed difference of an output, relative to its largest absolute value; None for the square
            root of the machine epsilon of its dtype (3e-4 in float32).
        **pd_cfg: Arguments of :class:`~.conv.PDConv`: ``mode``, ``branches``, ``group_num``, ``reduction``, ….

    Returns:
        Names of the replaced convolutions.

    Raises:
        UserError: If the rule matches nothing, a convolution cannot be replaced, its norm is unknown, or the output of
            a warm start differs. The model is then unchanged.
    """
    trace = trace_norms(model, example)
    candidates = list(find_candidates(model, trace.norms))
    chosen = [candidate for candidate in candidates if _matches(candidate, rule)]
    if not chosen:
        names = ', '.join(candidate.name for candidate in candidates[:3]) or 'none'
        kind = ' (ungrouped 3x3 convolutions followed by a batch norm only)' if rule is None else ''
        raise UserError(
            f'no convolution can be disentangled with rule={rule!r}{kind}; candidates of the model: {names}'
        )
    check_candidates(model, chosen, trace.failure)
    convs = [_build_conv(candidate, deploy, pd_cfg) for candidate in chosen]
    warm = [warm_start(c.name, c.conv) if callable(warm_start) else warm_start for c in chosen]
    before = float_outputs(model, trace.call) if all(warm) and trace.call else []
    replaced = [_replace(*arguments) for arguments in zip(chosen, convs, warm, strict=True)]
    try:
        _check_outputs(before, float_outputs(model, trace.call) if before else [], tolerance)
    except UserError:
        for candidate, modules in zip(chosen, replaced, strict=True):
            for name, module in modules.items():
                setattr(candidate.parent, name, module)
        raise
    for candidate in chosen:
        if candidate.norm is not None and move_replaced_norms not in _load_hooks(candidate.parent):
            candidate.parent.register_load_state_dict_pre_hook(move_replaced_norms)
    return [candidate.name for candidate in chosen]


def _replace(candidate: ConvCandidate, conv: PDConv, warm_start: bool) -> dict[str, nn.Module]:
    """Replace a convolution and its norm by ``conv``, and return them by their names in the parent."""
    parent, norm = candidate.parent, candidate.norm
    replaced = {name: getattr(parent, name) for name in (candidate.attribute, norm) if name is not None}
    if warm_start:
        conv.load_state_dict(_base_state(candidate))
    setattr(parent, candidate.attribute, conv)
    if norm is not None:
        setattr(parent, norm, nn.Identity())
    return replaced


def _check_outputs(before: Sequence[Tensor], after: Sequence[Tensor], tolerance: float | None) -> None:
    """Raise if outputs differ by more than the tolerance."""
    for reference, output in zip(before, after, strict=True):
        if reference.is_meta or not reference.numel():
            continue
        allowed = torch.finfo(reference.dtype).eps ** 0.5 if tolerance is None else tolerance
        difference = relative_difference(output, reference)
        if not difference <= allowed:
            raise UserError(
                f'the converted model differs from the base model by {difference:.1e} of the largest output, more than '
                f'{allowed:.1e}: exclude the cause by the rule, give a larger tolerance, or set warm_start=False'
            )


def _load_hooks(module: nn.Module) -> list[Callable]:
    return [hook.hook for hook in module._load_state_dict_pre_hooks.values()]


def _matches(candidate: ConvCandidate, rule: Rule) -> bool:
    conv = candidate.conv
    if rule is None:
        may_have_norm = candidate.norm is not None or not candidate.is_norm_known
        return may_have_norm and conv.groups == 1 and conv.kernel_size == (3, 3)
    if callable(rule):
        return rule(candidate.name, conv)
    return any(re.search(pattern, candidate.name) for pattern in ([rule] if isinstance(rule, str) else rule))


def _build_conv(candidate: ConvCandidate, deploy: bool, pd_cfg: dict) -> PDConv:
    conv = candidate.conv
    geometry = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups
    options = pd_cfg | dict(norm_cfg=_norm_cfg(candidate, pd_cfg.get('norm_cfg')), deploy=deploy)
    try:
        pd_conv = PDConv(conv.in_channels, conv.out_channels, *geometry, conv.bias is not None, **options)
    except UserError as error:
        raise UserError(f'{candidate.name} cannot be disentangled: {error}') from error
    pd_conv.replaced_norm = candidate.norm
    return pd_conv.to(conv.weight).train(conv.training)


def _norm_cfg(candidate: ConvCandidate, norm_cfg: dict | None) -> dict:
    """Return the config of a norm with the type, eps and momentum of the replaced norm."""
    if candidate.norm is None:
        return norm_cfg or dict(type='BN')
    norm = getattr(candidate.parent, candidate.norm)
    kind: dict[str, Any] = dict(type='SyncBN' if isinstance(norm, nn.SyncBatchNorm) else 'BN')
    if isinstance(norm, SplitBatchNorm2d):
        kind = dict(type='reprefine.SplitBN', num_splits=norm.num_splits)
    requires_grad = dict(requires_grad=norm.weight.requires_grad)
    return kind | requires_grad | (norm_cfg or {}) | dict(eps=norm.eps, momentum=norm.momentum)


def _base_state(candidate: ConvCandidate) -> dict[str, Tensor]:
    state = dict(candidate.conv.state_dict())
    if candidate.norm is not None:
        norm = getattr(candidate.parent, candidate.norm)
        state |= {f'{NORM_PREFIX}{key}': value for key, value in norm.state_dict().items()}
    return state
