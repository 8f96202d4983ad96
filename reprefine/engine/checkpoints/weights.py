"""Loading of weights into a model, with a report of how much of it was loaded."""

import re
from collections.abc import Collection, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .entries import suggest_keys
from .load_trace import LoadTrace, Shapes, is_counter, named_tensors
from .method_keys import refuse_other_form
from .rename_keys import MODULE_PREFIX, rename_keys

EXTRA_STATE = '_extra_state'  # torch's name for it


class KeyMatch(NamedTuple):
    """How a state dict matches a model.

    Attributes:
        ratio: Fraction of the elements of the model's state that were loaded. What modules skip on purpose does not
            count; if nothing was loaded, it is 0.
        matched: Number of tensors of the model that were loaded.
        missing: Keys of the model that the file lacks.
        mismatched: Keys of both with different shapes, and these: that in the file and that in the model.
        unexpected: Keys of the file that the model lacks.
        resized: Keys of tensors that a module resampled, such as position tables, with the same two shapes.
    """

    ratio: float
    matched: int
    missing: list[str]
    mismatched: dict[str, Shapes]
    unexpected: list[str]
    resized: dict[str, Shapes] = {}  # noqa: RUF012, never modified

    @property
    def not_loaded(self) -> list[str]:
        """Keys of the model that were not loaded."""
        return self.missing + list(self.mismatched)

    @property
    def shrunk(self) -> dict[str, Shapes]:
        """Tensors that resampling has made smaller, so that detail is lost."""
        return {name: shapes for name, shapes in self.resized.items() if prod(shapes[0]) > prod(shapes[1])}

    @property
    def exact(self) -> bool:
        """Whether file and model have the same keys and shapes."""
        return not (self.missing or self.mismatched or self.unexpected or self.resized)

    def __str__(self) -> str:
        """Return the line for the log."""
        mismatched, resized = (
            [f'{name} is {given} instead of {own}' for name, (given, own) in shapes.items()]
            for shapes in (self.mismatched, self.resized)
        )
        kinds = ('missing', 'size mismatch', 'unexpected', 'resized')
        lists = zip(kinds, (self.missing, mismatched, self.unexpected, resized), strict=True)
        rest = ''.join(f', {len(names)} {kind} ({_first(names)})' for kind, names in lists if names)
        ratio = 1 if self.ratio == 1 else min(self.ratio, 0.999)  # 100.0% only for all
        return f'{ratio:.1%} of the model loaded: {self.matched} keys matched{rest}'


def _first(names: list[str], count: int = 5) -> str:
    return ', '.join(names[:count]) + (f' and {len(names) - count} more' if len(names) > count else '')


def load_weights(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    revise_keys: Sequence[tuple[str, str]] = MODULE_PREFIX,
    allowed_missing: Collection[str] = (),
) -> KeyMatch:
    """Load the weights that match and report how much of the model they are.

    The report is based on the model's tensors after loading, because load hooks of modules may rename, resize or drop
    keys.

    Args:
        model: The model, without a distributed wrapper.
        checkpoint: A state dict, or a dict that holds one under ``state_dict``.
        revise_keys: Pairs of pattern and replacement for the keys of the file.
        allowed_missing: Keys of the model that do not count, such as those of :func:`.method_keys.added_names`.
    """
    source = checkpoint.get('state_dict', checkpoint)
    state_dict = _without_complex(rename_keys(_entries(source), revise_keys), dict(named_tensors(model)))
    with LoadTrace(model, state_dict) as trace:
        missing, unexpected, mismatched = _load(model, _with_metadata(state_dict, source))
    loaded, left_out = trace.loaded({*missing, *mismatched}), trace.left_out()
    uncounted = {*allowed_missing, *filter(is_counter, trace.own)}
    excused = loaded | left_out | uncounted
    missing = [name for name in missing if name not in excused]
    mismatched = {name: shapes for name, shapes in mismatched.items() if name not in allowed_missing}
    ratio = _ratio(trace.own, loaded - uncounted, {*missing, *mismatched})
    return KeyMatch(ratio, len(loaded), missing, mismatched, unexpected, trace.resized(loaded))


def _entries(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of a state dict and the extra states of modules (``get_extra_state``)."""
    return {key: value for key, value in source.items() if torch.is_tensor(value) or key.endswith(EXTRA_STATE)}


def _without_complex(state_dict: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop complex weights of real parameters, as torch would load only their real part."""
    real = {name for name, tensor in own.items() if not tensor.is_complex()}
    return {key: value for key, value in state_dict.items() if key not in real or not value.is_complex()}


def _load(model: nn.Module, state_dict: dict[str, Tensor]) -> tuple[list[str], list[str], dict[str, Shapes]]:
    """Load a state dict and return what torch reports: missing and unexpected keys, and those of another shape."""
    found: dict[str, list[str]] = {}
    hook = model.register_load_state_dict_post_hook(lambda _, keys: found.update(keys._asdict()))
    mismatched = {}
    try:
        model.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        # torch raises on a size mismatch even with strict=False, after it has loaded the rest.
        mismatched = {name: (_shape(given), _shape(own)) for name, given, own in _SIZE_MISMATCH.findall(str(error))}
        if len(mismatched) != str(error).count('\n\t') or not mismatched:
            raise
    finally:
        hook.remove()
    return list(found['missing_keys']), list(found['unexpected_keys']), mismatched


_SIZE_MISMATCH = re.compile(
    r'size mismatch for (\S+): copying a param with shape torch\.Size\(\[([\d, ]*)\]\) from checkpoint, '
    r'the shape in current model is torch\.Size\(\[([\d, ]*)\]\)'
)


def _shape(numbers: str) -> list[int]:
    return [int(number) for number in numbers.split(',') if number.strip()]


def _ratio(own: dict[str, Tensor], loaded: set[str], not_loaded: set[str]) -> float:
    """Return the loaded elements as a fraction of those loaded and not loaded; 1 for a model without tensors."""
    done, rest = ({id(own[name]): own[name].numel() for name in names & own.keys()} for names in (loaded, not_loaded))
    total = sum((done | rest).values())
    return sum(done.values()) / total if total else float(not own)


def _with_metadata(state_dict: dict[str, Tensor], source: Any) -> dict[str, Tensor]:
    """Keep the versions of modules, by which load hooks convert old checkpoints."""
    result = type('StateDict', (dict,), {})(state_dict)
    result._metadata = getattr(source, '_metadata', {})
    return result


def check_match(
    match: KeyMatch, filename: str, min_ratio: float, model: nn.Module | None = None, checkpoint: Any = None
) -> None:
    """Refuse a checkpoint that does not match a model.

    That is one with layers in a form of a method that the model does not have, one that loads less than ``min_ratio``
    of the model, and with ``min_ratio=1`` one whose position tables resampling makes smaller.

    Args:
        match: Result of :func:`load_weights`.
        filename: Name for the message.
        min_ratio: Fraction of the model that has to be loaded.
        model: The model, to suggest an entry and a prefix of ``checkpoint`` that would match.
        checkpoint: Content of the file.

    Raises:
        UserError: With the ratio and the first keys of each kind.
    """
    refuse_other_form(match.unexpected, filename)
    if match.ratio < min_ratio:
        hint = '' if model is None else suggest_keys(checkpoint, model, match.ratio)
        raise UserError(
            f'checkpoint {filename} belongs to another model: {match}; '
            f'at least {min_ratio:.0%} needed (key min_load_ratio){hint}'
        )
    if min_ratio >= 1 and match.shrunk:
        name, (given, own) = next(iter(match.shrunk.items()))
        raise UserError(
            f'checkpoint {filename}: {name} is {given}, the model resamples it to {own}, which loses detail: '
            "set the model's img_size (or window size) to that of the checkpoint's training, or min_load_ratio=0.99"
        )


def check_finite(model: nn.Module, filename: str) -> None:
    """Refuse parameters that are NaN or infinite. Buffers, such as attention masks, may be.

    Raises:
        UserError: With the names of the first ones.
    """
    names = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if names:
        raise UserError(f'checkpoint {filename} holds weights that are not finite: {", ".join(names[:5])}')
