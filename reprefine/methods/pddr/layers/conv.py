"""The disentangled convolution PDConv, in its training and its deployed form."""

from collections.abc import Iterator, Sequence

import torch
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..functional import Pair, compose_map, group_count, mixed_kernels_conv, mixed_outputs_conv, strip_paddings
from .baseline_modules import plain_conv_and_norm, plain_layer
from .branches import BRANCHES, ConvNorm, Skeleton
from .gate import Gate
from .state_dict import fit_state
from .training_forward import COMPUTES, sum_of_branches

EXECUTIONS = ('auto', 'kernel', 'output')
# Positions of an output map below which, in a batch, J convolutions cost less than mixing kernels for each sample.
SMALL_MAP = 64


class PDConv(nn.Module):
    """A ``k x k`` convolution with batch norm that is trained as parallel branches of different sparsity.

    ``standard1`` and ``standard2`` are dense, ``skeleton`` adds a vertical and a horizontal strip, ``group`` is block
    diagonal; each has norms of its own, so that no norm follows the module. PD-A adds the branches. PD-B adds them
    with weights that a gate computes from the mean of the input, for each sample.

    Deployed, PD-A is one convolution with bias. PD-B keeps a folded kernel and bias for each branch and mixes them for
    each sample; it is *not* as small as the plain convolution.

    Args:
        in_channels: Channels ``I``.
        out_channels: Channels ``O``.
        kernel_size: Odd size ``k`` above 1, in pixels.
        stride: In pixels.
        padding: In pixels; at least the reach ``dilation * (k // 2)`` if there is a skeleton.
        dilation: In pixels.
        groups: Groups ``g`` of the convolution that is replaced.
        bias: Accepted for hosts that ask for one; the norms have it anyway.
        padding_mode: Only ``'zeros'`` is the same for all branches.
        mode: ``'A'`` or ``'B'``.
        branches: Subset of :data:`~.layers.BRANCHES` that contains ``standard1``; any order.
        group_num: Groups of the group branch, or ``'auto'`` for the largest that fits, up to 64.
        reduction: Width of the input over that of the gate's hidden layer.
        norm_cfg: Config of the norms, batch norm of any kind.
        deploy: Build the deployed form.
        execution: How deployed PD-B works: ``'kernel'`` mixes kernels for each sample, ``'output'`` mixes the outputs
            of one ``J`` times as wide convolution; ``'auto'`` takes what is faster for the shape.
        compute: How the training form works; all give the same numbers. ``'branches'``: one convolution and one norm
            after another. ``'fused'``: one function with its own backward pass. ``'lean'``: the same, but it
            recomputes the branches instead of keeping their outputs. ``'auto'``: ``'fused'`` for PD-B on a CPU, where
            it saves memory, else ``'branches'``; with fixed statistics (evaluation, ``norm_eval``) a single convolution
            with the kernels folded on the fly.

    Raises:
        UserError: If an argument makes branches that differ in what they see, or that cannot be folded.
    """

    replaced_type = nn.Conv2d
    transposed = False
    output_padding = (0, 0)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: str = 'zeros',
        *,
        mode: str = 'A',
        branches: Sequence[str] = BRANCHES,
        group_num: int | str = 64,
        reduction: int = 16,
        norm_cfg: dict | None = None,
        deploy: bool = False,
        execution: str = 'auto',
        compute: str = 'auto',
    ):
        super().__init__()
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = to_2tuple(kernel_size), to_2tuple(stride)
        self.padding, self.dilation = to_2tuple(padding), to_2tuple(dilation)
        self.padding_mode = padding_mode
        self.mode, self.group_num, self.reduction = mode, group_num, reduction
        self.branches = tuple(name for name in BRANCHES if name in branches)
        self.norm_cfg = norm_cfg or dict(type='BN')
        self.execution, self.compute, self.deploy = execution, compute, deploy
        self._check(branches)
        self.host_norm: str | None = None  # name of the host's norm that the branches' norms replace
        self.host_bias = bias
        if not deploy:
            for name in self.branches:
                self.add_module(name, self._make_branch(name))
        if mode == 'B':
            self.gate = Gate(in_channels, len(self.branches), reduction)
        if deploy:
            self._make_deployed()

    def _check(self, branches: Sequence[str]) -> None:
        unknown = set(branches) - set(BRANCHES)
        if unknown or 'standard1' not in branches:
            raise UserError(f'branches={tuple(branches)}: take standard1 and any others of {", ".join(BRANCHES)}')
        for name, choices in (('mode', ('A', 'B')), ('execution', EXECUTIONS), ('compute', COMPUTES)):
            if getattr(self, name) not in choices:
                raise UserError(f'{name}={getattr(self, name)!r}: use one of {", ".join(choices)}')
        if not isinstance(self.reduction, int) or self.reduction < 1:
            raise UserError(f'reduction={self.reduction!r}: use a positive integer')
        size = self.kernel_size[0]
        if self.kernel_size != (size, size) or size % 2 == 0 or size == 1:
            raise UserError(
                f'kernel_size={self.kernel_size} cannot be disentangled: it must be square, odd and above 1'
            )
        if self.padding_mode != 'zeros':
            raise UserError(f'padding_mode={self.padding_mode!r}: branches share zero padding only')
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise UserError(f'{self.in_channels} -> {self.out_channels} channels do not make {self.groups} groups')

    def _make_branch(self, name: str) -> ConvNorm | Skeleton:
        def make(kernel: Pair, padding: Pair, groups: int = self.groups) -> ConvNorm:
            channels = self.in_channels, self.out_channels
            return ConvNorm(*channels, kernel, self.stride, padding, self.dilation, groups, self.norm_cfg)

        if name == 'skeleton':
            size = self.kernel_size[0]
            vertical, horizontal = strip_paddings(size, self.padding, self.dilation)
            return Skeleton(make((size, 1), vertical), make((1, size), horizontal))
        groups = self.groups
        if name == 'group':
            groups = group_count(self.group_num, self.in_channels, self.out_channels, self.groups)
        return make(self.kernel_size, self.padding, groups)

    def _make_deployed(self, like: Tensor | None = None) -> None:
        """Create the deployed parameters, of the device and type of ``like``."""
        factory = {} if like is None else dict(device=like.device, dtype=like.dtype)
        geometry = self.kernel_size, self.stride, self.padding, self.dilation, self.groups
        channels = self.in_channels, self.out_channels
        if self.mode == 'A':
            self.reparam = nn.Conv2d(*channels, *geometry, bias=True, **factory)
            return
        count = len(self.branches)
        shape = (count, self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        # Parameters, so that every counter sees them, though nothing trains them.
        self.reparam_weight = nn.Parameter(torch.zeros(shape, **factory), requires_grad=False)
        self.reparam_bias = nn.Parameter(torch.zeros(count, self.out_channels, **factory), requires_grad=False)

    def leaves(self) -> Iterator[tuple[int, ConvNorm]]:
        """Yield every convolution with norm of the training form and the number of its branch."""
        for index, name in enumerate(self.branches):
            yield from ((index, leaf) for leaf in getattr(self, name).leaves())

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return kernels ``[J, O, I/g, k, k]`` and biases ``[J, O]`` that equal the branches in evaluation mode."""
        pairs = [getattr(self, name).folded(self.groups) for name in self.branches]
        return torch.stack([kernel for kernel, _ in pairs]), torch.stack([bias for _, bias in pairs])

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the branches, ``[N, O, H', W']``, each after its norm and weighted by the gate (PD-B)."""
        if self.deploy and self.mode == 'A':
            return self.reparam(x)
        if self.deploy:
            return self.mixture(x, self.reparam_weight, self.reparam_bias)
        return sum_of_branches(self, x)

    def mixture(self, x: Tensor, kernels: Tensor, biases: Tensor) -> Tensor:
        """Return what the kernels ``[J, O, I/g, k, k]`` and biases ``[J, O]`` give, mixed by the gate (PD-B)."""
        pi = self.gate(x).to(kernels.dtype)
        mix = mixed_kernels_conv if self._execution(x) == 'kernel' else mixed_outputs_conv
        return mix(x, pi, kernels, biases, self.stride, self.padding, self.dilation, self.groups)

    def _execution(self, x: Tensor) -> str:
        # A traced graph must hold for any batch size.
        if torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
            return 'output'
        if self.execution != 'auto':
            return self.execution
        positions = x.shape[2] * x.shape[3] // (self.stride[0] * self.stride[1])
        return 'output' if len(x) > 1 and positions <= SMALL_MAP else 'kernel'

    @torch.no_grad()
    def switch_to_deploy(self, *_: object) -> None:
        """Fold the branches in place by their running statistics; a deployed module stays as it is.

        Args:
            _: What mmpose hands to every part that it deploys, not needed here.
        """
        if self.deploy:
            return
        kernels, biases = self.folded()
        trainable = self.standard1.conv.weight.requires_grad
        for name in self.branches:
            delattr(self, name)
        self._make_deployed(kernels)
        if self.mode == 'A':
            self.reparam.weight.copy_(kernels.sum(0))
            self.reparam.bias.copy_(biases.sum(0))
            self.reparam.requires_grad_(trainable)
        else:
            self.reparam_weight.copy_(kernels)
            self.reparam_bias.copy_(biases)
        self.deploy = True

    def explicit_output(self, x: Tensor) -> Tensor:
        """Return the output branch by branch, without kernels that are folded on the fly."""
        former, self.compute = self.compute, 'branches'
        try:
            return type(self).forward(self, x)
        finally:
            self.compute = former

    def baseline_modules(self) -> dict[str, nn.Module]:
        """See :class:`reprefine.deploy.forms.HasBaselineModules`."""
        return plain_conv_and_norm(self)

    @torch.no_grad()
    def map_output(self, weight: Tensor, shift: Tensor) -> None:
        """Fold a linear map of the output, ``y -> weight y + shift`` at every position, into the deployed form.

        It acts on the kernel of every branch of PD-B; so does the shift on every bias, as the gate sums to one.

        Args:
            weight: Map ``[O, O/g]``, one block a group as the weight of a 1x1 convolution.
            shift: ``[O]``.

        Raises:
            RuntimeError: If the module is in training form.
        """
        if not self.deploy:
            raise RuntimeError('a map of the output folds into the deployed form only: call switch_to_deploy() first')
        is_sum = self.mode == 'A'
        kernels = self.reparam.weight if is_sum else self.reparam_weight
        biases = self.reparam.bias if is_sum else self.reparam_bias
        mapped, moved = compose_map(kernels.flatten(-3), biases, weight, shift, self.groups)
        kernels.copy_(mapped.view_as(kernels))
        biases.copy_(moved)

    def training_form(self) -> 'PDConv':
        """Return a new module of the same arguments in training form."""
        twin = PDConv(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            mode=self.mode,
            branches=self.branches,
            group_num=self.group_num,
            reduction=self.reduction,
            norm_cfg=self.norm_cfg,
        )
        twin.host_norm = self.host_norm
        return twin

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        fit_state(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Return what the printed module shows."""
        return (
            f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, '
            f'padding={self.padding}, dilation={self.dilation}, groups={self.groups}, mode={self.mode}, '
            f'branches={self.branches}, deploy={self.deploy}'
        )


@MODELS.register_module(name='PDConv')
def pd_conv_layer(
    in_channels: int, out_channels: int, kernel_size: int | Pair, *args: object, deploy: bool = False, **kwargs: object
) -> nn.Module:
    """Build the layer of ``conv_cfg=dict(type='reprefine.PDConv', ...)``; 1x1 ones, having no parts, stay plain.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: In pixels.
        *args: Further arguments of a convolution.
        deploy: Build the deployed form.
        **kwargs: Those of :class:`PDConv`.
    """
    if to_2tuple(kernel_size) != (1, 1):
        return PDConv(in_channels, out_channels, kernel_size, *args, deploy=deploy, **kwargs)
    plain = ('stride', 'padding', 'dilation', 'groups', 'bias', 'padding_mode')
    return nn.Conv2d(in_channels, out_channels, kernel_size, *args, **{k: v for k, v in kwargs.items() if k in plain})


pd_conv_layer.baseline_config = plain_layer
