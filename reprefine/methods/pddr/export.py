"""Export of deployed networks to ONNX."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from reprefine.deploy import relative_difference
from reprefine.engine.errors import UserError
from reprefine.engine.files import complete_file

from .examples import image_channels
from .plain import pd_convs, pd_layers

TOLERANCE = 1e-4


class _Network(nn.Module):
    """The part of an OpenMMLab model that maps images to tensors: a classifier's logits, else the feature maps."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        if not hasattr(model, 'extract_feat'):
            outputs = model(images)
        elif hasattr(model, 'head') and hasattr(model.head, 'loss_module'):  # a classifier of mmpretrain
            outputs = model(images, mode='tensor')
        else:
            outputs = model.extract_feat(images)
        return (outputs,) if torch.is_tensor(outputs) else tuple(outputs)


@torch.no_grad()
def export_onnx(
    model: nn.Module,
    target: str | Path,
    shape: tuple[int, int] = (224, 224),
    opset: int = 17,
    tolerance: float = TOLERANCE,
) -> float:
    """Write a deployed model as ONNX with any batch size, run it by onnxruntime and compare.

    PD-B is exported with the static kernels of all branches whatever its ``execution``, since a graph cannot hold as
    many groups as there will be samples. Detectors and segmentors export backbone and neck; their heads need a
    deployment tool of their own.

    Args:
        model: Deployed model; evaluated, and left in evaluation mode.
        target: File to write; it appears whole or not at all.
        shape: Height and width of the images, in pixels.
        opset: Version of the operators.
        tolerance: Largest relative difference of an output that counts as rounding.

    Returns:
        Largest relative difference between onnxruntime and PyTorch, for another batch size than was traced.

    Raises:
        UserError: If onnxruntime is not installed, a layer is in training form, the model's output is not finite, or
            the two differ.
    """
    onnxruntime = import_onnxruntime()
    unfolded = [name for name, layer in pd_layers(model).items() if not layer.deploy]
    if unfolded:
        raise UserError(f'{unfolded[0]} is in training form: fold the model by switch_to_deploy() before its export')
    model.eval()
    network = _Network(model)
    size = (3, image_channels(model) or 3, *shape)
    images = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(next(model.parameters()))
    with _static_kernels(model):
        expected = network(images)
        if not all(output.isfinite().all() for output in expected):
            raise UserError(f"{target}: the model's own output for random images is not finite; nothing is written")
        with complete_file(target) as partial:
            _write(network, images[:2], partial, opset, len(expected))
            session = onnxruntime.InferenceSession(partial, providers=['CPUExecutionProvider'])
            outputs = session.run(None, {'images': images.cpu().numpy()})
            pairs = zip(outputs, expected, strict=True)
            difference = max(relative_difference(torch.from_numpy(ours), theirs.cpu()) for ours, theirs in pairs)
            if not difference <= tolerance:
                raise UserError(
                    f'{target}: onnxruntime differs by {difference:.1e} of the largest output from PyTorch, more than '
                    f'{tolerance:.1e}; nothing is written'
                )
    return difference


def import_onnxruntime() -> ModuleType:
    """Return the module that runs ONNX files.

    Raises:
        UserError: If it or onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError('export needs onnx and onnxruntime: pip install onnx onnxruntime') from error
    return onnxruntime


@contextmanager
def _static_kernels(model: nn.Module) -> Iterator[None]:
    """Let PD-B work with the kernels of all branches for a while."""
    former = {conv: conv.execution for conv in pd_convs(model).values()}
    try:
        for conv in former:
            conv.execution = 'output'
        yield
    finally:
        for conv, execution in former.items():
            conv.execution = execution


def _write(network: _Network, images: Tensor, target: str, opset: int, outputs: int) -> None:
    names = [f'output{i}' for i in range(outputs)]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # constants of the trace; the comparison of the outputs shows whether they hold
        torch.onnx.export(
            network,
            (images,),
            target,
            input_names=['images'],
            output_names=names,
            dynamic_axes={name: {0: 'batch'} for name in ['images', *names]},
            opset_version=opset,
            dynamo=False,
        )
