"""Inputs on which two forms of a model are compared, and the outputs of a model for them."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from reprefine.engine.cost.counting import forward
from reprefine.engine.cost.inputs import DEFAULT_SHAPE, declared_shape, loader_batch, random_batch
from reprefine.engine.data_checks.data_root import check_data_folders
from reprefine.engine.errors import UserError

IMAGES = 2  # batch size: more than one, so that computations that depend on the sample are compared
LARGE = 512 * 512  # pixels of an image above which the batch size is 1


class Example(NamedTuple):
    """An input of a model.

    Attributes:
        inputs: Images ``[N, 3, H, W]`` as the model's data preprocessor returns them, or any tensor.
        data: Further arguments of an OpenMMLab model; None for a model that is called with the tensor alone.
        source: Description, for messages.
    """

    inputs: Tensor
    data: dict | None
    source: str


def random_example(
    cfg: Config, model: nn.Module, shape: tuple[int, int] | None = None, like: Tensor | None = None
) -> Example:
    """Return random images of the input size of a config.

    Args:
        cfg: Complete config.
        model: Its model, whose data preprocessor is used.
        shape: Height and width in pixels; default that of the config, otherwise that of ``like``, otherwise 224x224.
        like: Images of the model ``[N, C, H, W]``, from which the number of channels is taken; None: 3.
    """
    like_shape = None if like is None else tuple(like.shape[-2:])
    height, width = shape or declared_shape(cfg) or like_shape or DEFAULT_SHAPE
    batch = random_batch(cfg, (height, width), 1 if height * width > LARGE else IMAGES)
    example = _preprocessed(model, batch.data, batch.source)
    return example if like is None else example._replace(inputs=example.inputs[:, : like.shape[1]])


def examples_of_test_set(cfg: Config, model: nn.Module, required: bool) -> list[Example]:
    """Return the first images of a config's test set, one per example because their sizes may differ.

    Args:
        cfg: Complete config.
        model: Its model, whose data preprocessor is used.
        required: Raise an error if the data are missing; otherwise the result is then empty.

    Raises:
        UserError: If the data are required and missing.
    """
    try:
        if required or cfg.get('test_dataloader'):
            check_data_folders(cfg, ['test_dataloader'])
            batch = loader_batch(cfg, 'test', IMAGES)
            singles = [{key: values[i : i + 1] for key, values in batch.data.items()} for i in range(batch.size)]
            return [_preprocessed(model, data, f'test image {i + 1}') for i, data in enumerate(singles)]
    except (UserError, OSError):
        if required:
            raise
    return []


def _preprocessed(model: nn.Module, data: dict, source: str) -> Example:
    data = copy.deepcopy(data)
    takes_views = any(kind.__name__ == 'SelfSupDataPreprocessor' for kind in type(model.data_preprocessor).__mro__)
    if takes_views:  # lists of views, here a single one
        data = dict(inputs=[torch.stack(list(data['inputs']))], data_samples=None)
    data = dict(model.data_preprocessor(data, False))
    inputs = data.pop('inputs')
    return Example(inputs[0] if takes_views else inputs, data, source)


@torch.no_grad()
def outputs_of(model: nn.Module, example: Example, features: bool = False) -> list[Tensor]:
    """Return all floating-point tensors of a model's output, computed in the dtype of its parameters.

    Args:
        model: The model. An OpenMMLab model runs in the mode ``'tensor'``: the raw outputs of its head.
        example: Its input.
        features: Run backbone and neck only.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), example.inputs.dtype)
    inputs = example.inputs.to(dtype)
    with default_dtype(dtype):
        if features:
            result = model.extract_feat(inputs)
        elif example.data is None:
            result = model(inputs)
        else:
            result = forward(model, example.data | {'inputs': inputs}, 'tensor')
    return [tensor for tensor in tensors_in(result) if tensor.is_floating_point()]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype, in which models create tensors such as anchors, while the context is open.

    Args:
        dtype: The dtype.
    """
    former = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(former)


def tensors_in(result: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, dicts and data elements."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, BaseDataElement):
        yield from tensors_in(dict(result.items()))
    elif isinstance(result, dict):
        yield from tensors_in(list(result.values()))
    elif isinstance(result, (list, tuple)):
        for part in result:
            yield from tensors_in(part)
