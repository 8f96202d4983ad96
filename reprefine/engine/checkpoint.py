"""Reading checkpoints without running what they hold, and measuring how much of a model they fill."""

import os
import pickle
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dist import all_gather_object
from mmengine.runner import CheckpointLoader
from torch import nn

from .errors import UserError

# Host libraries load pretrained weights by themselves; the switch makes every torch.load of the process weights-only.
os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


class KeyMatch(NamedTuple):
    """How a state dict fitted a model.

    Attributes:
        share: Fraction of the elements of the model's state that were filled.
        unfilled: Names in the model that the file lacks or holds in another shape.
        unused: Names in the file that the model lacks.
    """

    share: float
    unfilled: list[str]
    unused: list[str]

    def __str__(self) -> str:
        """Return the line for the log."""
        names = ''.join(
            f'; {kind}: {", ".join(names[:5])}{f" and {len(names) - 5} more" if len(names) > 5 else ""}'
            for kind, names in (('not filled', self.unfilled), ('not used', self.unused))
            if names
        )
        return f'{self.share:.1%} of the model filled{names}'


@contextmanager
def raise_together() -> Iterator[None]:
    """Raise a :class:`UserError` of any rank on all ranks, so that none waits for the others."""
    error = None
    try:
        yield
    except UserError as caught:
        error = caught
    messages = all_gather_object(str(error) if error else None)
    if error is not None:
        raise error
    for message in messages:
        if message is not None:
            raise UserError(message)


def require_checkpoint(filename: str) -> None:
    """Refuse a local path that names no file."""
    if '://' not in filename and not os.path.isfile(os.path.expanduser(filename)):
        folder = Path(filename).expanduser().parent
        others = ', '.join(sorted(path.name for path in folder.glob('*.pth')))
        raise UserError(f'checkpoint {filename} does not exist' + (f'; its folder holds {others}' if others else ''))


def read_checkpoint(filename: str, map_location: Any = 'cpu', mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint weights-only.

    Args:
        filename: Local path or URL of any scheme that mmengine knows.
        map_location: As in :func:`torch.load`.
        mmap: Read tensors of a local file only when they are used.

    Raises:
        UserError: If the file is missing, cut short, no checkpoint, or holds objects whose loading runs code.
    """
    require_checkpoint(filename)
    try:
        if '://' in filename:
            checkpoint = CheckpointLoader.load_checkpoint(filename, map_location)
        else:
            checkpoint = torch.load(
                os.path.expanduser(filename), map_location=map_location, weights_only=True, mmap=mmap
            )
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        if 'GLOBAL' in str(error):  # so torch names a function or class outside its allow-list
            raise UserError(f'checkpoint {filename} refused: it holds objects whose loading may run code') from error
        kind = type(error).__name__
        raise UserError(f'checkpoint {filename} cannot be read, it is cut short or no checkpoint ({kind})') from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'checkpoint {filename} holds a {type(checkpoint).__name__} instead of a state dict')
    return checkpoint


def load_weights(
    model: nn.Module,
    checkpoint: dict[str, Any],
    revise_keys: Sequence[tuple[str, str]] = ((r'^module\.', ''),),
    may_lack: Collection[str] = (),
) -> KeyMatch:
    """Load what fits and report how much did.

    The match is read off after the modules' own load hooks, which may rename, resize or excuse keys.

    Args:
        model: The model, without a distributed wrapper.
        checkpoint: A state dict, or a dict that holds one under ``state_dict``.
        revise_keys: Pairs of pattern and replacement for the names in the file.
        may_lack: Names in the model that do not count, such as those a refinement adds to its baseline.
    """
    source = checkpoint.get('state_dict', checkpoint)
    state_dict = {_revise(key, revise_keys): value for key, value in source.items() if torch.is_tensor(value)}
    keys = {}
    offered = set(state_dict)  # to which a wrapper adds the names that it gives them
    hooks = (
        model.register_load_state_dict_post_hook(lambda _, found: keys.update(found._asdict())),
        model.register_load_state_dict_pre_hook(lambda _, given, *rest: offered.update(given)),
    )
    reshaped = []
    try:
        model.load_state_dict(_with_metadata(state_dict, source), strict=False)
    except RuntimeError as error:
        # torch raises on another shape even when not strict, after it has loaded the rest.
        reshaped = re.findall(r'size mismatch for (\S+):', str(error))
        if not reshaped:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    # Swin Transformer V2 takes tables that follow from its window size out of the file on purpose.
    missing = [key for key in keys['missing_keys'] if key not in offered and not key.endswith('num_batches_tracked')]
    unfilled = [key for key in missing + reshaped if key not in may_lack]
    sizes = {name: t.numel() for name, t in _named_tensors(model) if name not in may_lack}
    share = 1 - sum(sizes.get(key, 0) for key in unfilled) / max(sum(sizes.values()), 1)
    return KeyMatch(share, unfilled, list(keys['unexpected_keys']))


def _revise(key: str, revise_keys: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in revise_keys:
        key = re.sub(pattern, replacement, key)
    return key


def _with_metadata(state_dict: dict[str, torch.Tensor], source: Any) -> dict[str, torch.Tensor]:
    """Carry over the module versions, which tell torch's own load hooks what to convert."""
    result = type('StateDict', (dict,), {})(state_dict)
    result._metadata = getattr(source, '_metadata', {})
    return result


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def check_match(match: KeyMatch, filename: str, floor: float) -> None:
    """Refuse a checkpoint that fills less than ``floor`` of the model.

    Raises:
        UserError: With the share and the first names on either side.
    """
    if match.share < floor:
        raise UserError(
            f'checkpoint {filename} belongs to another model: {match}; at least {floor:.0%} needed (key load_floor)'
        )
