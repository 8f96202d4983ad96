"""Folding a checkpoint file: from what a DenoiseRep run saves to what the baseline config loads."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor, nn

from reprefine.deploy import relative_difference
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.errors import UserError
from reprefine.engine.files import complete_file

from .convert import FusedModelError, denoise_layers
from .functional import predict_noise
from .layer import _DenoiseLayer
from .layers import DenoiseConv2d
from .state import DenoiseState

FUSED_META = 'denoiserep_fused'
TOLERANCE = 1e-6  # of the largest output; compared in float64, so that the type of the weights does not matter
_KEPT_META = ('dataset_meta', 'epoch', 'iter', 'mmengine_version')


def fuse_checkpoint(
    model: nn.Module,
    source: str | Path,
    target: str | Path,
    overwrite: bool = False,
    tolerance: float = TOLERANCE,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> float:
    """Load an unfolded checkpoint into ``model``, fold it, check the result and write it as a plain checkpoint.

    Args:
        model: Model of the checkpoint's config (a :class:`~.model.DenoiseRep`); folded in place.
        source: Checkpoint of a DenoiseRep run.
        target: File to write; it appears whole or not at all.
        overwrite: Whether an existing target may be replaced.
        tolerance: Largest relative difference, of any layer, that counts as equal.
        checkpoint_key: Entry of the source that holds the weights.
        revise_keys: Pairs of pattern and replacement for their names.

    Returns:
        Largest relative difference between a folded and an unfolded layer on random features.

    Raises:
        UserError: If the checkpoint is folded already or does not fit the model, a layer differs, or the target exists.
    """
    if Path(target).exists() and not overwrite:
        raise UserError(f'{target} exists: give another name, or remove it')
    checkpoint = select_weights(read_checkpoint(str(source)), str(source), checkpoint_key, revise_keys)
    state_dict, meta = checkpoint.get('state_dict', checkpoint), checkpoint.get('meta', {})
    if meta.get(FUSED_META) or not any('.denoiser.' in key for key in state_dict):
        raise UserError(f'{source} holds no denoiser: it is a baseline or folded already; give an unfolded checkpoint')
    try:
        match = load_weights(model, checkpoint)
        if not match.exact:
            raise UserError(f'{source} does not fit the config: {match}')
        differences = {name: fold_difference(layer) for name, layer in denoise_layers(model).items()}
        model.switch_to_deploy()
    except (RuntimeError, FusedModelError) as error:
        raise UserError(f'{source} does not fit the config: {error}') from error
    for name, difference in differences.items():
        if not difference <= tolerance:  # NaN is one, too
            raise UserError(
                f'{source}: the folded layer {name} differs by {difference:.1e} from the unfolded one, more than '
                f'{tolerance:.0e}; nothing is written'
            )
    folded = {'meta': {key: meta[key] for key in _KEPT_META if key in meta} | {FUSED_META: True}}
    with complete_file(target) as partial:
        torch.save(folded | {'state_dict': weights_to_cpu(model.state_dict())}, partial)
    return max(differences.values())


@torch.no_grad()
def fold_difference(layer: _DenoiseLayer) -> float:
    """Return how far a layer's folded output is from its explicitly denoised one, on random features in float64."""
    layer = copy.deepcopy(layer, {id(layer.state): DenoiseState([layer.name])}).double()  # the state knows the model
    shape = (4, layer.weight.shape[1])
    if isinstance(layer, DenoiseConv2d):
        extent = [dilation * (k - 1) + 3 for dilation, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        shape = (2, layer.in_channels, *extent)
    feature = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(layer.weight)
    return relative_difference(layer.fuse()(feature), explicit_output(layer, feature))


def explicit_output(layer: _DenoiseLayer, feature: Tensor) -> Tensor:
    """Return the output of a layer whose feature is denoised as such, without merging anything.

    Args:
        layer: Denoising layer.
        feature: Its input, ``[..., C]`` or ``[B, C, H, W]``.
    """
    step, constant = layer.denoiser.step, layer.denoiser.constant()

    def denoise(x: Tensor) -> Tensor:
        return step.c_x * x - step.c_e * predict_noise(x, layer.denoiser.weight, constant, layer.channel_dim)

    if layer.side == 'output':
        return denoise(layer._host_forward(feature, layer.weight, layer.bias))
    if not isinstance(layer, DenoiseConv2d):
        return layer._host_forward(denoise(feature), layer.weight, layer.bias)
    mode = 'constant' if layer.padding_mode == 'zeros' else layer.padding_mode
    padded = F.pad(feature, layer._reversed_padding_repeated_twice, mode)
    return F.conv2d(denoise(padded), layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
