"""Export of deployed models to ONNX."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError, error_summary
from reprefine.engine.files import atomic_write

from .compare import evaluated_copy, largest_difference
from .onnx_operators import OPSET, additional_operators
from .onnx_parts import Part, parts_of
from .protocol import training_forms

TOLERANCE = 1e-4
BATCH, SIZE = {0: 'batch'}, {2: 'height', 3: 'width'}


class Exported(NamedTuple):
    """Result of :func:`export_onnx`.

    Attributes:
        part: Description of the part of the model that the graph computes.
        shape: Description of the images that it takes.
        difference: Largest relative difference between onnxruntime and PyTorch.
    """

    part: str
    shape: str
    difference: float


@torch.no_grad()
def export_onnx(
    model: nn.Module,
    target: str | Path,
    shape: Sequence[int],
    dynamic: bool = False,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a deployed model as ONNX, and compare onnxruntime with PyTorch on images of other shapes.

    The input of the graph, ``images``, is the output of the model's data preprocessor; its outputs are ``output0``,
    ``output1``, …. It computes the whole model if the exporter can trace it, otherwise backbone and neck: for two-stage
    detectors, and for heads whose input is not images alone.

    Args:
        model: Deployed model; it is not modified.
        target: File to write, atomically.
        shape: Channels, height and width of the images, in pixels.
        dynamic: Whether height and width are dynamic axes. The batch size is dynamic in either case, unless the model's
            operations fix it, to one.
        tolerance: Largest relative difference of an output that is accepted as rounding.

    Raises:
        UserError: If onnxruntime is not installed, a layer is in training form, the model does not run on such images
            or cannot be exported, its output is not finite, or the two differ.
    """
    import_onnxruntime()
    if left := training_forms(model):
        raise UserError(f'{left[0]} is in training form: call switch_to_deploy() on the model before its export')
    model = evaluated_copy(model, torch.float32)
    failures: list[Exception] = []
    for part in parts_of(model):
        for axes in [BATCH | SIZE] if dynamic else [BATCH, {}]:
            try:
                with atomic_write(target) as partial:
                    difference = _export(part, partial, tuple(shape), axes, tolerance)
                return Exported(part.description, _shape_text(shape, axes), difference)
            except Exception as error:  # of the exporter, of onnxruntime, or of a head whose input is not images alone
                failures.append(error)
        if isinstance(failures[-1], UserError):
            break  # the graph runs but differs: another part would not help
    raise UserError(_failure(target, failures, dynamic)) from failures[-1]


def _failure(target: str | Path, failures: Sequence[Exception], dynamic: bool) -> str:
    last = failures[-1]
    reason = (
        str(last) if isinstance(last, UserError) else f'the model cannot be exported ({error_summary(failures[0])})'
    )
    hint = ', when its graph takes images of any size: leave --dynamic out' if dynamic else ''
    return f'{Path(target).name}: {reason}{hint}; nothing is written'


def import_onnxruntime() -> ModuleType:
    """Return the module ``onnxruntime``.

    Raises:
        UserError: If it or onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError('onnx or onnxruntime is not installed: pip install onnx onnxruntime') from error
    return onnxruntime


def _export(part: Part, file: str, shape: tuple[int, ...], axes: dict[int, str], tolerance: float) -> float:
    """Write a graph and return its largest difference from PyTorch for images of other shapes than the traced ones."""
    traced, *others = (_images((count, *size), seed) for seed, (count, size) in enumerate(_shapes(shape, axes)))
    expected = [part(images) for images in others]
    if not all(output.isfinite().all() for outputs in expected for output in outputs):
        raise UserError("the model's own output for random images is not finite")
    _write(part, traced, file, axes, len(expected[0]))
    session = import_onnxruntime().InferenceSession(file, providers=['CPUExecutionProvider'])
    results = [session.run(None, {'images': images.numpy()}) for images in others]
    pairs = zip(results, expected, strict=True)
    difference = max(
        largest_difference([torch.from_numpy(output) for output in outputs], expected) for outputs, expected in pairs
    )
    if not difference <= tolerance:
        raise UserError(
            f'onnxruntime differs by {difference:.1e} of the largest output from PyTorch, more than {tolerance:.1e}'
        )
    return difference


def _shapes(shape: tuple[int, ...], axes: dict[int, str]) -> list[tuple[int, tuple[int, ...]]]:
    """Return batch sizes and image shapes: the first to trace with, the others to run."""
    channels, height, width = shape
    if SIZE.keys() <= axes.keys():
        return [(2, shape), (1, (channels, 2 * height, width)), (3, shape), (1, (channels, height, 2 * width))]
    return [(2, shape), (3, shape), (1, shape)] if axes else [(1, shape)] * 3


def _images(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _shape_text(shape: Sequence[int], axes: dict[int, str]) -> str:
    number = 'any number of images' if axes else 'one image'
    return f'{number} of any size' if SIZE.keys() <= axes.keys() else f'{number} of {"x".join(map(str, shape))}'


def _write(part: Part, images: Tensor, target: str, axes: dict[int, str], outputs: int) -> None:
    names = [f'output{i}' for i in range(outputs)]
    batch = {axis: name for axis, name in axes.items() if axis == 0}
    with warnings.catch_warnings(), additional_operators():
        warnings.simplefilter('ignore')  # about constants of the trace, which the comparison checks
        torch.onnx.export(
            part,
            (images,),
            target,
            input_names=['images'],
            output_names=names,
            dynamic_axes={'images': axes} | dict.fromkeys(names, batch),
            opset_version=OPSET,
            dynamo=False,
        )
