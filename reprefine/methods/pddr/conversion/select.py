"""The convolutions of a model that can be disentangled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from reprefine.engine.errors import UserError
from reprefine.models.replaced_layer import ReplacedLayer

from .norm_tracing import is_plain_norm, norm_by_definition


@dataclass(frozen=True)
class Site:
    """A convolution that can be replaced.

    Attributes:
        name: Its name in the model.
        parent: Module that holds it.
        attribute: Its name in the parent.
        norm: Name in the parent of the batch norm that alone reads its output, None if there is none.
        is_decided: Whether that is known.
    """

    name: str
    parent: nn.Module
    attribute: str
    norm: str | None
    is_decided: bool = True

    @property
    def conv(self) -> nn.Conv2d:
        """The convolution."""
        return getattr(self.parent, self.attribute)


def find_sites(model: nn.Module, norms: Mapping[nn.Module, nn.Module | None], prefix: str = '') -> Iterator[Site]:
    """Yield the square, odd convolutions above 1x1 with zero padding that reaches, each with its batch norm, in order.

    What a layer that a method has put in the place of another one consists of is none of them.

    A norm belongs to a convolution if it alone reads the output and both have the same parent, as ``conv1`` and ``bn1``
    of residual blocks, the parts of a ``ConvModule`` and neighbours in an ``nn.Sequential`` have.

    Args:
        model: Any module.
        norms: The norm behind each convolution that a forward pass ran, as :func:`~.pairing.observe` found it.
        prefix: What goes before the names, with a final dot.
    """
    for name, child in model.named_children():
        if _is_eligible(child):
            yield _site(model, name, norms, prefix)
        elif not isinstance(child, ReplacedLayer):
            yield from find_sites(child, norms, f'{prefix}{name}.')


def _site(parent: nn.Module, attribute: str, norms: Mapping[nn.Module, nn.Module | None], prefix: str) -> Site:
    conv, name = getattr(parent, attribute), f'{prefix}{attribute}'
    try:
        norm = norms[conv] if conv in norms else norm_by_definition(parent, attribute)
    except LookupError:
        return Site(name, parent, attribute, None, is_decided=False)
    names = [key for key, child in parent.named_children() if child is norm and is_plain_norm(child)]
    return Site(name, parent, attribute, names[0] if names else None)


def _is_eligible(conv: nn.Module) -> bool:
    if type(conv) is not nn.Conv2d or conv.padding_mode != 'zeros' or isinstance(conv.padding, str):
        return False
    size = conv.kernel_size
    reaches = all(p >= d * (k // 2) for p, d, k in zip(conv.padding, conv.dilation, size, strict=True))
    # Spectral or weight norm computes the kernel from another parameter.
    return size[0] == size[1] > 1 and size[0] % 2 == 1 and reaches and 'weight' in conv._parameters


def check_sites(model: nn.Module, sites: Sequence[Site], failure: str) -> None:
    """Refuse convolutions whose norm is unknown or cannot be folded, and modules that have several places.

    Args:
        model: The model.
        sites: Convolutions to be replaced.
        failure: Why no forward pass succeeded, if none did.

    Raises:
        UserError: If there is one.
    """
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(module, []).append(name)
    for site in sites:
        if not site.is_decided:
            raise UserError(
                f'{site.name}: which batch norm follows it cannot be told, because '
                f'{failure or "the forward pass does not reach it"}; give an example input with which the model runs, '
                'or a rule that leaves it out'
            )
        norm = site.norm and getattr(site.parent, site.norm)
        if norm is not None and not (norm.affine and norm.track_running_stats):
            raise UserError(
                f'{site.name} cannot be disentangled: its norm {site.norm} has affine={norm.affine}, '
                f'track_running_stats={norm.track_running_stats}, and both must be True to fold it; give a rule that '
                'leaves it out'
            )
        shared = [module for module in (site.conv, norm) if module is not None and len(names[module]) > 1]
        if shared:
            raise UserError(
                f'{site.name} cannot be disentangled: {" and ".join(names[shared[0]])} are one module, and a '
                'replacement would part them; give a rule that leaves it out'
            )
