"""Folding a checkpoint file: from what a PD run saves to what its deployed or its plain config loads."""

import copy
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reprefine.deploy import relative_difference, switch_to_deploy
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.cost.counting import count_parameters
from reprefine.engine.errors import UserError
from reprefine.engine.files import complete_file

from .conv import PDConv

DEPLOYED_META = 'pddr_deployed'
TOLERANCE = 1e-5  # of the largest output; computed in float64, so that only the rounding of folded weights counts
_KEPT_META = ('dataset_meta', 'epoch', 'iter', 'mmengine_version')


class Folding(NamedTuple):
    """What :func:`reparameterize` did.

    Attributes:
        model: The deployed model.
        before: Parameters of the training form.
        after: Parameters of what was written.
        difference: Largest relative difference of a layer or feature map, in float64.
        averaged: Whether the weights are the moving average of the run (EMA).
    """

    model: nn.Module
    before: int
    after: int
    difference: float
    averaged: bool


def pd_convs(model: nn.Module) -> dict[str, PDConv]:
    """Return the disentangled convolutions of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, PDConv)}


@torch.no_grad()
def plain_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a PD-A model, of either form, under the names of the plain model.

    The norm that a convolution had replaced comes back with mean 0, variance ``1 - eps``, scale 1 and the folded bias
    as shift.

    Raises:
        UserError: If the model has PD-B convolutions, which no plain model equals, or one of them stands where the
            plain model has neither norm nor bias.
    """
    state = model.state_dict()
    for name, conv in pd_convs(model).items():
        if conv.mode == 'B':
            raise UserError(f'{name} is PD-B: its kernels depend on the sample, so that no plain model equals it')
        state = {key: value for key, value in state.items() if not key.startswith(f'{name}.')}
        state |= _plain_conv(name, conv)
    return state


def _plain_conv(name: str, conv: PDConv) -> dict[str, Tensor]:
    if conv.deploy:
        weight, bias = conv.reparam.weight, conv.reparam.bias
    else:
        weight, bias = (part.sum(0) for part in conv.folded())
    state = {f'{name}.weight': weight}
    if conv.host_bias:
        state[f'{name}.bias'] = torch.zeros_like(bias) if conv.host_norm else bias
    if conv.host_norm:
        norm = f'{name.rpartition(".")[0]}.{conv.host_norm}'.lstrip('.')
        ones = torch.ones_like(bias)
        parts = dict(weight=ones, bias=bias, running_mean=0 * ones, running_var=ones - conv.norm_cfg.get('eps', 1e-5))
        state |= {f'{norm}.{key}': value for key, value in parts.items()}
        state[f'{norm}.num_batches_tracked'] = torch.tensor(0)
    elif not conv.host_bias:
        raise UserError(f'{name} replaces a convolution without norm and bias, which has no place for the folded bias')
    return state


def reparameterize(
    model: nn.Module, source: str | Path, target: str | Path, plain: bool = False, overwrite: bool = False
) -> Folding:
    """Load a training checkpoint, fold the model, check that it computes the same, and write it.

    Args:
        model: Model of the checkpoint's config, in training form; folded in place.
        source: Checkpoint of its training. If the run kept a moving average, that is what it holds as weights.
        target: File to write; it appears whole or not at all, without optimiser and message hub.
        plain: Write PD-A under the names of the plain model instead of those of the ``deploy=True`` config.
        overwrite: Whether an existing target may be replaced.

    Raises:
        UserError: If the target exists, the checkpoint does not fit or is folded already, a plain form does not exist,
            or the folded model differs.
    """
    if Path(target).exists() and not overwrite:
        raise UserError(f'{target} exists: give another name, or remove it')
    if not pd_convs(model):
        raise UserError(
            'the model of the config has no PD convolution: give the config the checkpoint was trained with'
        )
    if any(conv.deploy for conv in pd_convs(model).values()):
        raise UserError('the config builds the deployed form: give the one the checkpoint was trained with')
    checkpoint = read_checkpoint(str(source))
    match = load_weights(model, checkpoint)
    if not match.exact:
        raise UserError(f'{source} does not fit the config: {match}')
    before, trained = count_parameters(model), copy.deepcopy(model)
    model.eval()
    switch_to_deploy(model)
    difference = largest_difference(trained, model)
    if not difference <= TOLERANCE:
        raise UserError(
            f'{source}: the folded model differs by {difference:.1e} from the trained one; nothing is written'
        )
    state = plain_state_dict(model) if plain else model.state_dict()
    parameters = {name for name, _ in model.named_parameters()}
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    after = sum(v.numel() for k, v in state.items() if k in parameters or (plain and not k.endswith(buffers)))
    meta = {key: value for key, value in checkpoint.get('meta', {}).items() if key in _KEPT_META}
    with complete_file(target) as partial:
        weights = {key: value.detach().cpu() for key, value in state.items()}
        torch.save(dict(meta=meta | {DEPLOYED_META: not plain}, state_dict=weights), partial)
    return Folding(model, before, after, difference, 'ema_state_dict' in checkpoint)


@torch.no_grad()
def largest_difference(trained: nn.Module, folded: nn.Module) -> float:
    """Return how far a folded model is from its training form, relative to the outputs, on random input in float64.

    Compared are every disentangled convolution on its own and, if the model has ``extract_feat``, its feature maps.

    Args:
        trained: The training form.
        folded: The deployed form; both stay as they are.
    """
    trained, folded = (copy.deepcopy(model).double().cpu().eval() for model in (trained, folded))
    generator = torch.Generator().manual_seed(0)
    twins = pd_convs(folded)
    differences = []
    for name, conv in pd_convs(trained).items():
        conv.compute = 'branches'
        reach = max(d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
        x = torch.randn(2, conv.in_channels, reach + 3, reach + 4, generator=generator, dtype=torch.float64)
        differences.append(relative_difference(twins[name](x), conv(x)))
    if hasattr(trained, 'extract_feat'):
        image = torch.randn(2, _image_channels(trained), 64, 96, generator=generator, dtype=torch.float64)
        pairs = zip(_tensors(folded.extract_feat(image)), _tensors(trained.extract_feat(image)), strict=True)
        differences += [relative_difference(ours, theirs) for ours, theirs in pairs]
    return max(differences)


def _image_channels(model: nn.Module) -> int:
    return next(module.in_channels for module in model.modules() if isinstance(module, (nn.Conv2d, PDConv)))


def _tensors(features: object) -> list[Tensor]:
    return [features] if torch.is_tensor(features) else [t for part in features for t in _tensors(part)]
