"""Finding the weights in checkpoints of other code: which entry holds them, and which prefix their names carry."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from reprefine.engine.errors import UserError

from .rename_keys import rename_keys

STRIPPED, ADDED = 4, 3  # how many parts of a name a suggested prefix has at most, in the file and in the model
Shapes = dict[str, torch.Size]


def select_weights(
    checkpoint: dict[str, Any],
    filename: str,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return a checkpoint whose ``state_dict`` is the chosen entry, with renamed keys.

    Args:
        checkpoint: Content of a file; with neither option it is returned as it is.
        filename: Name of the file, for messages.
        checkpoint_key: Entry that holds the weights, ``'a.b'`` for one within another; None: ``state_dict``, or the
            checkpoint itself if it has none.
        revise_keys: Pairs of regular expression and replacement for the names, as mmengine has them.

    Raises:
        UserError: If there is no such entry, it holds no weights, or two weights would get one name.
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
        # Unless renamed, a state dict keeps the versions of its modules.
        state_dict = rename_keys(weights, revise_keys) if revise_keys else weights
    except UserError as error:
        raise UserError(f'checkpoint {filename}: {error}') from error
    rest = checkpoint if 'state_dict' in checkpoint or checkpoint_key else {}
    return {**rest, 'state_dict': state_dict}


def _entries(
    checkpoint: Mapping[str, Any], depth: int = 2, path: str | None = None
) -> Iterator[tuple[str | None, Any]]:
    """Yield the dicts that hold tensors by name, with their path; None for the checkpoint itself."""
    if any(isinstance(name, str) and torch.is_tensor(value) for name, value in checkpoint.items()):
        yield path, checkpoint
    for name, value in checkpoint.items():
        if depth and isinstance(value, Mapping) and isinstance(name, str):
            yield from _entries(value, depth - 1, name if path is None else f'{path}.{name}')


class Fit(NamedTuple):
    """How an entry would fit a model.

    Attributes:
        elements: Elements of the weights that agree in name and shape.
        keys: Number of these weights.
        entry: Path of the entry.
        stripped: Prefix that its names lose.
        added: Prefix that they get.
    """

    elements: int
    keys: int
    entry: str | None
    stripped: str
    added: str


def suggest_keys(checkpoint: Mapping[str, Any], model: nn.Module, share: float) -> str:
    """Return a hint at the entry and the prefix with which more of a model would be loaded, or nothing.

    Args:
        checkpoint: Content of the file.
        model: The model that it was loaded into; counted are names and shapes of its own state dict.
        share: Fraction of the model's elements that was loaded.
    """
    wanted = {name: value.shape for name, value in model.state_dict().items() if torch.is_tensor(value)}
    fits = [fit for entry, weights in _entries(checkpoint) for fit in _fits(entry, weights, wanted)]
    total = sum(shape.numel() for shape in wanted.values())
    best = max(
        fits, key=lambda fit: (fit.elements, fit.entry in (None, 'state_dict'), -len(fit.stripped)), default=None
    )
    if best is None or best.elements <= share * total:
        return ''
    where = 'it' if best.entry in (None, 'state_dict') else f"its entry '{best.entry}'"
    changes = [f"'{best.stripped}' removed from"] * bool(best.stripped) + [f"'{best.added}' added to"] * bool(
        best.added
    )
    names = f' with {" and ".join(changes)} the names' if changes else ''
    return f'; {where}{names} matches {best.keys} of {len(wanted)} keys: {_options(best)}'


def _options(fit: Fit) -> str:
    """Return the options that select what fits, for the command line and for a config."""
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
    """Return how an entry fits with each exchange of prefixes that makes any name agree, in name and shape."""
    endings: dict[str, list[str]] = {}
    for name in wanted:
        for prefix, ending in _splits(name, ADDED):
            endings.setdefault(ending, []).append(prefix)
    counts: dict[tuple[str, str], list[int]] = {}
    for name, value in weights.items():
        if not isinstance(name, str) or not torch.is_tensor(value):
            continue
        for stripped, ending in _splits(name, STRIPPED):
            for added in endings.get(ending, ()):
                if wanted[added + ending] == value.shape:
                    count = counts.setdefault((stripped, added), [0, 0])
                    count[0] += value.numel()
                    count[1] += 1
    return [Fit(elements, keys, entry, *prefixes) for prefixes, (elements, keys) in counts.items()]


def _splits(name: str, most: int) -> Iterator[tuple[str, str]]:
    """Yield a dotted name divided into a prefix of up to ``most`` parts and its ending."""
    parts = name.split('.')
    for count in range(min(most, len(parts) - 1) + 1):
        yield ''.join(f'{part}.' for part in parts[:count]), '.'.join(parts[count:])
