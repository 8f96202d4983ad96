"""Symbolic functions of operators that the TorchScript ONNX exporter of torch lacks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.onnx import register_custom_op_symbolic, unregister_custom_op_symbolic
from torch.onnx.symbolic_helper import parse_args

OPSET = 18


@contextmanager
def additional_operators() -> Iterator[None]:
    """Register the additional operators with the exporter while the context is open."""
    operators: dict[str, Callable] = {
        'aten::_upsample_bicubic2d_aa': _bicubic_antialiased,
        'aten::adaptive_avg_pool2d': _adaptive_average,
    }
    for name, function in operators.items():
        register_custom_op_symbolic(name, function, OPSET)
    try:
        yield
    finally:
        for name in operators:
            unregister_custom_op_symbolic(name, OPSET)


def _bicubic_antialiased(graph: Any, images: Any, size: Any, align_corners: Any, *_: Any) -> Any:
    """Return the ``Resize`` operator of the antialiased bicubic interpolation that resamples position embeddings.

    Args:
        graph: Graph that is built.
        images: Value of the input in it.
        size: Output height and width, one value or two.
        align_corners: Always False with antialiasing.
    """
    if size.node().kind() == 'prim::ListConstruct':
        axis = _constant(graph, torch.tensor([0]))
        size = graph.op('Concat', *[graph.op('Unsqueeze', side, axis) for side in size.node().inputs()], axis_i=0)
    starts, ends = (_constant(graph, torch.tensor([number])) for number in (0, 2))
    shape = graph.op('Concat', graph.op('Slice', graph.op('Shape', images), starts, ends), size, axis_i=0)
    empty = _constant(graph, torch.tensor([], dtype=torch.float32))
    return graph.op(
        'Resize',
        images,
        empty,
        empty,
        shape,
        mode_s='cubic',
        coordinate_transformation_mode_s='half_pixel',
        cubic_coeff_a_f=-0.5,
        antialias_i=1,
        exclude_outside_i=1,
    )


@parse_args('v', 'is')
def _adaptive_average(graph: Any, features: Any, size: list[int]) -> Any:
    """Return adaptive average pooling to any output size, as two matrix products.

    Args:
        graph: Graph that is built.
        features: Value of the feature map in it.
        size: Output height and width.

    Raises:
        ValueError: If the size of the feature map is dynamic, unless the output size is 1x1.
    """
    if list(size) == [1, 1]:
        return graph.op('GlobalAveragePool', features)
    given = features.type().varyingSizes()
    if given is None or None in given[-2:]:
        raise ValueError('adaptive pooling to more than 1x1 needs a feature map of fixed size')
    rows, columns = (_averages(int(old), new) for old, new in zip(given[-2:], size, strict=True))
    return graph.op('MatMul', graph.op('MatMul', _constant(graph, rows), features), _constant(graph, columns.T))


def _averages(old: int, new: int) -> Tensor:
    """Return the matrix ``[new, old]`` whose rows average the windows of adaptive pooling."""
    matrix = torch.zeros(new, old)
    for row in range(new):
        start, end = row * old // new, -(-(row + 1) * old // new)
        matrix[row, start:end] = 1 / (end - start)
    return matrix


def _constant(graph: Any, value: Tensor) -> Any:
    return graph.op('Constant', value_t=value.contiguous())
