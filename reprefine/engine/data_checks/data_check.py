"""Data that a run cannot work with, found when their loader is built and before an image is read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader, Dataset

from reprefine.engine.errors import UserError
from reprefine.engine.resuming.data_loader import is_infinite

from .data_errors import nodes
from .nesting import class_names, leaf_datasets


@contextmanager
def raise_if_empty(dataloader: Any) -> Iterator[None]:
    """Turn what mmengine raises over a data set without samples into one line.

    Args:
        dataloader: Config of the data loader that is built.

    Raises:
        UserError: If the data set is empty.
    """
    try:
        yield
    except ValueError as error:
        if 'need at least one array to concatenate' not in str(error):
            raise
        raise _empty(dataloader) from error


def _empty(dataloader: Any) -> UserError:
    return UserError(f'{_name(dataloader)} has no samples: look at its annotations, filter and indices')


def _name(dataloader: Any) -> str:
    dataset = dataloader.get('dataset') if isinstance(dataloader, Mapping) else None
    if not isinstance(dataset, Mapping):
        return 'the data set of a loader'
    named = [f'{key} {dataset[key]}' for key in ('data_root', 'ann_file') if dataset.get(key)]
    return f'data set {dataset.get("type")}' + (f' ({", ".join(named)})' if named else '')


def check_batches(loader: DataLoader, dataloader: Any) -> None:
    """Refuse a loader that yields nothing.

    Args:
        loader: The loader.
        dataloader: Its config.

    Raises:
        UserError: If the data set is empty, or smaller than a batch while ``drop_last`` is set.
    """
    try:
        samples, batches = len(loader.dataset), len(loader)
    except TypeError:  # a stream
        return
    if samples == 0:
        raise _empty(dataloader)
    if batches == 0 and not is_infinite(loader):
        raise UserError(
            f'{_name(dataloader)} has {samples} samples, fewer than batch_size = {loader.batch_size}, and drop_last '
            'leaves no batch: lower batch_size, or set drop_last=False'
        )


def check_classes(model: Mapping, dataset: Dataset) -> None:
    """Refuse a model whose heads know fewer classes than the data set names, or counts as ``num_labels``.

    Heads of one class, and those that tell objects from the rest, are not judged.

    Args:
        model: Config of the model.
        dataset: The training set.

    Raises:
        UserError: With both numbers.
    """
    leaves = leaf_datasets(dataset)
    classes = max(len(class_names(leaf)) or getattr(leaf, 'num_labels', 0) for leaf in leaves)
    known = {place: count for place, count in _heads(model) if count > 1}
    if known and classes > max(known.values()):
        place = max(known, key=known.get)
        other = ', or give the data set other metainfo.classes' if class_names(leaves[0]) else ''
        raise UserError(
            f'{place}.num_classes is {known[place]}, but {type(leaves[0]).__name__} has {classes} classes: set it to '
            f'{classes}{other}'
        )


def _heads(model: Any) -> Iterator[tuple[str, int]]:
    """Yield the place of every head in ``model`` that has a number of classes, and this number."""
    for path, node in nodes(model, 'model'):
        name = path.rstrip('.0123456789').rpartition('.')[2]  # of a list of heads, the list's
        if name.endswith('head') and name != 'rpn_head' and type(node.get('num_classes')) is int:
            yield path, node['num_classes']
