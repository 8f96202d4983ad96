"""Finds the convolutions of a model that PDConv can replace."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from reprefine.engine.errors import UserError
from reprefine.models.replaced_layer import ReplacedLayer

from .norm_tracing import is_exact_batch_norm, norm_by_class


@dataclass(frozen=True)
class ConvCandidate:
    """A convolution that can be replaced.

    Attributes:
        name: Name in the model.
        parent: Parent module.
        attribute: Name in the parent.
        norm: Name in the parent of the batch norm that is the only consumer of its output; None if there is none.
        is_norm_known: Whether ``norm`` could be determined.
    """

    name: str
    parent: nn.Module
    attribute: str
    norm: str | None
    is_norm_known: bool = True

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return getattr(self.parent, self.attribute)


def find_candidates(
    model: nn.Module, norms: Mapping[nn.Module, nn.Module | None], prefix: str = ''
) -> Iterator[ConvCandidate]:
    """Yield the convolutions with a square, odd kernel above 1x1 and enough zero padding, in registration order.

    Layers inside a :class:`~reprefine.models.replaced_layer.ReplacedLayer` of another method are not candidates. A norm
    belongs to a convolution if it is the only consumer of its output and has the same parent, such as ``conv1`` and
    ``bn1`` of residual blocks, the children of a ``ConvModule`` and neighbours in an ``nn.Sequential``.

    Args:
        model: Any module.
        norms: The norm after each convolution, see :attr:`~.norm_tracing.NormTrace.norms`.
        prefix: Prefix of the names, with a trailing dot.
    """
    for name, child in model.named_children():
        if _is_eligible(child):
            yield _candidate(model, name, norms, prefix)
        elif not isinstance(child, ReplacedLayer):
            yield from find_candidates(child, norms, f'{prefix}{name}.')


def _candidate(
    parent: nn.Module, attribute: str, norms: Mapping[nn.Module, nn.Module | None], prefix: str
) -> ConvCandidate:
    conv, name = getattr(parent, attribute), f'{prefix}{attribute}'
    try:
        norm = norms[conv] if conv in norms else norm_by_class(parent, attribute)
    except LookupError:
        return ConvCandidate(name, parent, attribute, None, is_norm_known=False)
    names = [key for key, child in parent.named_children() if child is norm and is_exact_batch_norm(child)]
    return ConvCandidate(name, parent, attribute, names[0] if names else None)


def _is_eligible(conv: nn.Module) -> bool:
    if type(conv) is not nn.Conv2d or conv.padding_mode != 'zeros' or isinstance(conv.padding, str):
        return False
    size = conv.kernel_size
    is_padded = all(p >= d * (k // 2) for p, d, k in zip(conv.padding, conv.dilation, size, strict=True))
    # With spectral or weight norm the kernel is computed from another parameter.
    return size[0] == size[1] > 1 and size[0] % 2 == 1 and is_padded and 'weight' in conv._parameters


def check_candidates(model: nn.Module, candidates: Sequence[ConvCandidate], failure: str) -> None:
    """Check that convolutions can be replaced.

    Args:
        model: The model.
        candidates: Convolutions to be replaced.
        failure: Why no forward pass succeeded, if none did.

    Raises:
        UserError: If the norm of one is unknown or cannot be fused, or a module is shared.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    for candidate in candidates:
        if not candidate.is_norm_known:
            raise UserError(
                f'{candidate.name}: the batch norm that follows it is unknown, because '
                f'{failure or "the forward pass does not reach it"}; give an example input for the model, or a '
                'rule that excludes it'
            )
        norm = candidate.norm and getattr(candidate.parent, candidate.norm)
        if norm is not None and not (norm.affine and norm.track_running_stats):
            raise UserError(
                f'{candidate.name} cannot be disentangled: its norm {candidate.norm} has affine={norm.affine}, '
                f'track_running_stats={norm.track_running_stats}, and both must be True to fuse it; give a rule that '
                'excludes it'
            )
        shared = [module for module in (candidate.conv, norm) if module is not None and len(names[module]) > 1]
        if shared:
            raise UserError(
                f'{candidate.name} cannot be disentangled: {" and ".join(names[shared[0]])} share one module, which '
                'a replacement would separate; give a rule that excludes it'
            )
