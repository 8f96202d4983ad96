"""Checks of a data loader when it is built: samples, batches, and the number of classes of the model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader, Dataset

from reprefine.engine.config_check.walk import iter_dicts
from reprefine.engine.errors import UserError
from reprefine.engine.resuming.data_loader import is_infinite

from .wrappers import class_names, leaf_datasets


@contextmanager
def raise_if_empty(dataloader: Any) -> Iterator[None]:
    """Turn what mmengine raises over a dataset without samples into one line.

    Args:
        dataloader: Config of the data loader that is built.

    Raises:
        UserError: If the dataset is empty.
    """
    try:
        yield
    except ValueError as error:
        if 'need at least one array to concatenate' not in str(error):
            raise
        raise _empty_error(dataloader) from error


def _empty_error(dataloader: Any) -> UserError:
    return UserError(f'{_describe_dataset(dataloader)} has no samples: look at its annotations, filter and indices')


def _describe_dataset(dataloader: Any) -> str:
    dataset = dataloader.get('dataset') if isinstance(dataloader, Mapping) else None
    if not isinstance(dataset, Mapping):
        return 'the dataset of a loader'
    named = [f'{key} {dataset[key]}' for key in ('data_root', 'ann_file') if dataset.get(key)]
    return f'dataset {dataset.get("type")}' + (f' ({", ".join(named)})' if named else '')


def check_batches(loader: DataLoader, dataloader: Any) -> None:
    """Refuse a loader that yields nothing.

    Args:
        loader: The loader.
        dataloader: Its config.

    Raises:
        UserError: If the dataset is empty, or smaller than a batch while ``drop_last`` is set.
    """
    try:
        samples, batches = len(loader.dataset), len(loader)
    except TypeError:  # IterableDataset
        return
    if samples == 0:
        raise _empty_error(dataloader)
    if batches == 0 and not is_infinite(loader):
        raise UserError(
            f'{_describe_dataset(dataloader)} has {samples} samples, fewer than batch_size = {loader.batch_size}, and '
            'drop_last leaves no batch: lower batch_size, or set drop_last=False'
        )


def check_classes(model: Mapping, dataset: Dataset) -> None:
    """Refuse a model whose heads have fewer classes than the dataset names, or counts as ``num_labels``.

    Heads of one class and region proposal heads are not checked.

    Args:
        model: Config of the model.
        dataset: The training set.

    Raises:
        UserError: With both numbers.
    """
    leaves = leaf_datasets(dataset)
    classes = max(len(class_names(leaf)) or getattr(leaf, 'num_labels', 0) for leaf in leaves)
    heads = {path: count for path, count in _heads(model) if count > 1}
    if heads and classes > max(heads.values()):
        path = max(heads, key=heads.get)
        other = ', or give the dataset other metainfo.classes' if class_names(leaves[0]) else ''
        raise UserError(
            f'{path}.num_classes is {heads[path]}, but {type(leaves[0]).__name__} has {classes} classes: set it to '
            f'{classes}{other}'
        )


def _heads(model: Any) -> Iterator[tuple[str, int]]:
    """Yield the config path and ``num_classes`` of every head in ``model`` that has it."""
    for path, node in iter_dicts(model, 'model'):
        name = path.rstrip('.0123456789').rpartition('.')[2]  # of a list of heads, that of the list
        if name.endswith('head') and name != 'rpn_head' and type(node.get('num_classes')) is int:
            yield path, node['num_classes']
