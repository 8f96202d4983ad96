"""Putting weights into a model, and measuring how much of it they fill."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from ..errors import UserError


class KeyMatch(NamedTuple):
    """How a state dict fitted a model.

    Attributes:
        share: Fraction of the elements of the model's state that were filled.
        matched: Number of tensors of the file that went into the model.
        missing: Names in the model that the file lacks.
        misshaped: Names that both have, with the shape in the file and the shape in the model.
        unexpected: Names in the file that the model lacks.
    """

    share: float
    matched: int
    missing: list[str]
    misshaped: dict[str, tuple[list[int], list[int]]]
    unexpected: list[str]

    @property
    def unfilled(self) -> list[str]:
        """Names in the model that were not filled."""
        return self.missing + list(self.misshaped)

    @property
    def exact(self) -> bool:
        """Whether file and model hold the same names and shapes."""
        return not (self.missing or self.misshaped or self.unexpected)

    def __str__(self) -> str:
        """Return the line for the log."""
        misshaped = [f'{name} is {given} instead of {own}' for name, (given, own) in self.misshaped.items()]
        kinds = {'missing': self.missing, 'mis-shaped': misshaped, 'unexpected': self.unexpected}
        rest = ''.join(f', {len(names)} {kind} ({_first(names)})' for kind, names in kinds.items() if names)
        return f'{self.share:.1%} of the model filled: {self.matched} keys matched{rest}'


def _first(names: list[str], count: int = 5) -> str:
    return ', '.join(names[:count]) + (f' and {len(names) - count} more' if len(names) > count else '')


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
    own = dict(_named_tensors(model))
    for key in [key for key, value in state_dict.items() if value.is_complex()]:
        if key in own and not own[key].is_complex():
            del state_dict[key]  # torch would drop the imaginary part
    keys = {}
    offered = set(state_dict)  # to which a wrapper adds the names that it gives them
    hooks = (
        model.register_load_state_dict_post_hook(lambda _, found: keys.update(found._asdict())),
        model.register_load_state_dict_pre_hook(lambda _, given, *rest: offered.update(given)),
    )
    misshaped = {}
    try:
        model.load_state_dict(_with_metadata(state_dict, source), strict=False)
    except RuntimeError as error:
        # torch raises on another shape even when not strict, after it has loaded the rest.
        misshaped = {name: (_shape(a), _shape(b)) for name, a, b in _SIZE_MISMATCH.findall(str(error))}
        if not misshaped:
            raise
    finally:
        for hook in hooks:
            hook.remove()
    # Swin Transformer V2 takes tables that follow from its window size out of the file on purpose.
    absent, left_out = keys['missing_keys'], [key for key in keys['missing_keys'] if key in offered]
    missing = [key for key in absent if not (key in offered or key in may_lack or key.endswith('num_batches_tracked'))]
    matched = len(state_dict) - len(keys['unexpected_keys']) - len(misshaped) - len(left_out)
    misshaped = {key: shapes for key, shapes in misshaped.items() if key not in may_lack}
    sizes = {name: t.numel() for name, t in own.items() if name not in may_lack}
    share = 1 - sum(sizes.get(key, 0) for key in [*missing, *misshaped]) / max(sum(sizes.values()), 1)
    return KeyMatch(share, max(matched, 0), missing, misshaped, list(keys['unexpected_keys']))


_SIZE_MISMATCH = re.compile(
    r'size mismatch for (\S+): copying a param with shape torch\.Size\(\[([\d, ]*)\]\) from checkpoint, '
    r'the shape in current model is torch\.Size\(\[([\d, ]*)\]\)'
)


def _shape(numbers: str) -> list[int]:
    return [int(number) for number in numbers.split(',') if number.strip()]


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


def check_finite(model: nn.Module, filename: str) -> None:
    """Refuse weights that are NaN or infinite. Buffers, such as masks of attention, may be.

    Raises:
        UserError: With the first names.
    """
    names = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if names:
        raise UserError(f'checkpoint {filename} holds weights that are not finite: {", ".join(names[:5])}')
