"""Selection of the weights in checkpoints of other code: their entry in the file and the prefix of their keys."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from reprefine.engine.errors import UserError

from .rename_keys import rename_keys

MAX_STRIPPED, MAX_ADDED = 4, 3  # dotted parts of a suggested prefix, in the file and in the model
Shapes = dict[str, torch.Size]


def select_weights(
    checkpoint: dict[str, Any],
    filename: str,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return a checkpoint whose ``state_dict`` is the selected entry, with renamed keys.

    Args:
        checkpoint: Content of a file; without either option it is returned unchanged.
        filename: Name of the file for messages.
        checkpoint_key: Entry that holds the weights, ``'a.b'`` for a nested one; None: ``state_dict``, or the
            checkpoint itself if it has none.
        revise_keys: Pairs of regular expression and replacement for the keys, as in mmengine.

    Raises:
        UserError: If there is no such entry, it holds no weights, or two weights would get the same key.
    """
    if checkpoint_key is None and not revise_keys:
        return checkpoint
    weights = checkpoint.get('state_dict', checkpoint)
    if checkpoint_key is not None:
        entries = {name: entry for name, entry in _entries(checkpoint) if name is not None}
        if checkpoint_key not in entries:
            found = ', '.join(entries) or 'none; the weights are at its top level'
            raise UserError(f"checkpoint {filename} has no weights under the key '{checkpoint_key}'; it has {found}")
        weights = entries[checkpoint_key]
    try:
        # Unless renamed, a state dict keeps the versions of modules, which are an attribute of it.
        state_dict = rename_keys(weights, revise_keys) if revise_keys else weights
    except UserError as error:
        raise UserError(f'checkpoint {filename}: {error}') from error
    rest = checkpoint if 'state_dict' in checkpoint or checkpoint_key else {}
    return {**rest, 'state_dict': state_dict}


def _entries(
    checkpoint: Mapping[str, Any], depth: int = 2, path: str | None = None
) -> Iterator[tuple[str | None, Any]]:
    """Yield the path and content of each dict of tensors in a checkpoint; the path of the checkpoint itself is None."""
    if any(isinstance(name, str) and torch.is_tensor(value) for name, value in checkpoint.items()):
        yield path, checkpoint
    for name, value in checkpoint.items():
        if depth and isinstance(value, Mapping) and isinstance(name, str):
            yield from _entries(value, depth - 1, name if path is None else f'{path}.{name}')


class Fit(NamedTuple):
    """How well an entry matches a model after a change of prefix.

    Attributes:
        elements: Number of elements of the weights that match in name and shape.
        keys: Number of these weights.
        entry: Path of the entry.
        stripped: Prefix that is removed from its keys.
        added: Prefix that is added to them.
    """

    elements: int
    keys: int
    entry: str | None
    stripped: str
    added: str


def suggest_keys(checkpoint: Mapping[str, Any], model: nn.Module, ratio: float) -> str:
    """Return a hint naming the entry and prefix with which more of a model would be loaded, or an empty string.

    Args:
        checkpoint: Content of the file.
        model: The model that it was loaded into; its state dict is compared by names and shapes.
        ratio: Fraction of the model's elements that was loaded.
    """
    wanted = {name: value.shape for name, value in model.state_dict().items() if torch.is_tensor(value)}
    fits = [fit for entry, weights in _entries(checkpoint) for fit in _fits(entry, weights, wanted)]
    total = sum(shape.numel() for shape in wanted.values())
    best = max(
        fits, key=lambda fit: (fit.elements, fit.entry in (None, 'state_dict'), -len(fit.stripped)), default=None
    )
    if best is None or best.elements <= ratio * total:
        return ''
    where = 'it' if best.entry in (None, 'state_dict') else f"its entry '{best.entry}'"
    changes = [f"'{best.stripped}' removed from"] * bool(best.stripped) + [f"'{best.added}' added to"] * bool(
        best.added
    )
    names = f' with {" and ".join(changes)} the names' if changes else ''
    return f'; {where}{names} matches {best.keys} of {len(wanted)} keys: {_options(best)}'


def _options(fit: Fit) -> str:
    """Return the options that make an entry match, for the command line and for a config."""
    flags, settings = [], []
    if fit.entry not in (None, 'state_dict'):
        flags.append(f'--checkpoint-key {fit.entry}')
        settings.append(f'checkpoint_key={fit.entry!r}')
    if fit.stripped or fit.added:
        pattern = f'^{re.escape(fit.stripped)}'
        flags.append(f"--revise-keys '{pattern}={fit.added}'")
        settings.append(f"revise_keys=[(r'{pattern}', '{fit.added}')]")
    return f'give {" ".join(flags)} (in a config {", ".join(settings)})'


def _fits(entry: str | None, weights: Mapping[str, Any], wanted: Shapes) -> list[Fit]:
    """Return the matches of an entry for each change of prefix that makes any weight match in name and shape."""
    suffixes: dict[str, list[str]] = {}
    for name in wanted:
        for prefix, suffix in _splits(name, MAX_ADDED):
            suffixes.setdefault(suffix, []).append(prefix)
    counts: dict[tuple[str, str], list[int]] = {}
    for name, value in weights.items():
        if not isinstance(name, str) or not torch.is_tensor(value):
            continue
        for stripped, suffix in _splits(name, MAX_STRIPPED):
            for added in suffixes.get(suffix, ()):
                if wanted[added + suffix] == value.shape:
                    count = counts.setdefault((stripped, added), [0, 0])
                    count[0] += value.numel()
                    count[1] += 1
    return [Fit(elements, keys, entry, *prefixes) for prefixes, (elements, keys) in counts.items()]


def _splits(name: str, max_parts: int) -> Iterator[tuple[str, str]]:
    """Yield the splits of a dotted name into a prefix of up to ``max_parts`` parts and a suffix."""
    parts = name.split('.')
    for count in range(min(max_parts, len(parts) - 1) + 1):
        yield ''.join(f'{part}.' for part in parts[:count]), '.'.join(parts[count:])
