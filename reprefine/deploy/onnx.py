"""Export of folded models to ONNX."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from reprefine.deploy.compare import evaluated_copy, largest
from reprefine.deploy.onnx_operators import OPSET, more_operators
from reprefine.deploy.onnx_parts import Part, parts_of
from reprefine.deploy.protocol import training_forms
from reprefine.engine.errors import UserError, error_summary
from reprefine.engine.files import atomic_write

TOLERANCE = 1e-4
BATCH, SIZE = {0: 'batch'}, {2: 'height', 3: 'width'}


class Exported(NamedTuple):
    """What :func:`export_onnx` wrote.

    Attributes:
        part: What of the model the graph computes.
        shape: The images that it takes.
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
    """Write a folded model as ONNX, run it by onnxruntime on images of two other shapes and compare.

    The graph takes images as the data preprocessor of the model gives them, ``images``, and gives ``output0``,
    ``output1``, …. It is that of the whole model where the exporter allows it, else that of backbone and neck: of
    two-stage detectors, and of heads that want more than images.

    Args:
        model: Folded model, which stays as it is.
        target: File to write; it appears whole or not at all.
        shape: Channels, height and width of the images, in pixels.
        dynamic: Whether the graph takes any height and width. It takes any number of images in either case, unless the
            model's operations hold the number fast, which is then one.
        tolerance: Largest relative difference of an output that counts as rounding.

    Raises:
        UserError: If onnxruntime is not installed, a layer is in training form, the model does not run on such images
            or cannot be exported, its output is not finite, or the two differ.
    """
    import_onnxruntime()
    if unfolded := training_forms(model):
        raise UserError(f'{unfolded[0]} is in training form: fold the model by switch_to_deploy() before its export')
    model = evaluated_copy(model, torch.float32)
    failures: list[Exception] = []
    for part in parts_of(model):
        for axes in [BATCH | SIZE] if dynamic else [BATCH, {}]:
            try:
                with atomic_write(target) as partial:
                    difference = _export(part, partial, tuple(shape), axes, tolerance)
                return Exported(part.description, _shape_text(shape, axes), difference)
            except Exception as error:  # of the exporter, of onnxruntime, or of a head that wants more than images
                failures.append(error)
        if isinstance(failures[-1], UserError):
            break  # what runs and differs is no matter of the part
    raise UserError(_refusal(target, failures, dynamic)) from failures[-1]


def _refusal(target: str | Path, failures: Sequence[Exception], dynamic: bool) -> str:
    last = failures[-1]
    reason = (
        str(last) if isinstance(last, UserError) else f'the model cannot be exported ({error_summary(failures[0])})'
    )
    hint = ', when its graph takes images of any size: leave --dynamic out' if dynamic else ''
    return f'{Path(target).name}: {reason}{hint}; nothing is written'


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


def _export(part: Part, file: str, shape: tuple[int, ...], axes: dict[int, str], tolerance: float) -> float:
    """Write a graph, and return how far it is from PyTorch for images of other shapes than it was traced with."""
    traced, *others = (_images((count, *size), seed) for seed, (count, size) in enumerate(_shapes(shape, axes)))
    expected = [part(images) for images in others]
    if not all(output.isfinite().all() for outputs in expected for output in outputs):
        raise UserError("the model's own output for random images is not finite")
    _write(part, traced, file, axes, len(expected[0]))
    session = import_onnxruntime().InferenceSession(file, providers=['CPUExecutionProvider'])
    results = [session.run(None, {'images': images.numpy()}) for images in others]
    pairs = zip(results, expected, strict=True)
    difference = max(largest([torch.from_numpy(output) for output in ours], theirs) for ours, theirs in pairs)
    if not difference <= tolerance:
        raise UserError(
            f'onnxruntime differs by {difference:.1e} of the largest output from PyTorch, more than {tolerance:.1e}'
        )
    return difference


def _shapes(shape: tuple[int, ...], axes: dict[int, str]) -> list[tuple[int, tuple[int, ...]]]:
    """Return the number of images, and their shape, to trace with, and those to run."""
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
    with warnings.catch_warnings(), more_operators():
        warnings.simplefilter('ignore')  # constants of the trace; the comparison of the outputs shows whether they hold
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
