"""PDConv, the convolution of PD-A and PD-B, in training and deployed form."""

from collections.abc import Iterator, Sequence

import torch
from mmengine.utils import to_2tuple
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..functional import Pair, compose_map, group_count, mixed_kernels_conv, mixed_outputs_conv, strip_paddings
from .baseline_modules import conv_baseline_modules, default_layer_config
from .branches import BRANCHES, ConvNorm, Skeleton
from .gate import Gate
from .state_dict import convert_layer_state
from .training_forward import COMPUTES, training_forward

EXECUTIONS = ('auto', 'kernel', 'output')
# Largest output size in positions for which, in a batch, J convolutions cost less than mixing kernels for each sample.
MAX_OUTPUT_EXECUTION_SIZE = 64


class PDConv(nn.Module):
    """A ``k x k`` convolution with batch norm, trained as parallel branches with different sparsity patterns.

    ``standard1`` and ``standard2`` are dense, ``skeleton`` is the sum of a vertical and a horizontal strip, and
    ``group`` is a grouped convolution. Every branch has its own batch norm, so no norm follows the module. PD-A adds
    the outputs of the branches; PD-B adds them with weights per sample from a gate on the global average of the input.

    The deployed form of PD-A is one convolution with bias. That of PD-B stores an equivalent kernel and bias for each
    branch and mixes them for each sample: it has more parameters than the convolution that it replaces.

    Args:
        in_channels: Input channels ``I``.
        out_channels: Output channels ``O``.
        kernel_size: Odd kernel size ``k`` above 1, in pixels.
        stride: Stride in pixels.
        padding: Zero padding in pixels; at least ``dilation * (k // 2)`` with a skeleton branch.
        dilation: Dilation in pixels.
        groups: Groups ``g`` of the replaced convolution.
        bias: Whether the replaced convolution has a bias. The branches have none, since their norms shift the output.
        padding_mode: Only ``'zeros'``.
        mode: ``'A'`` or ``'B'``.
        branches: Subset of :data:`~.branches.BRANCHES` that contains ``standard1``, in any order.
        group_num: Groups of the group branch, or ``'auto'`` for ``gcd(64 g, I, O)``.
        reduction: Reduction ratio of the gate's hidden layer.
        norm_cfg: Config of the norm layers, batch norm of any type.
        deploy: Whether to build the deployed form.
        execution: Computation of deployed PD-B: ``'kernel'`` mixes kernels for each sample, ``'output'`` mixes the
            outputs of one convolution with ``J O`` output channels, ``'auto'`` chooses the faster one for the shape.
        compute: Computation of the training form; all give the same result. ``'branches'``: every convolution and norm
            by itself. ``'fused'``: one autograd function. ``'lean'``: the same, but it recomputes outputs of branches
            in the backward pass instead of saving them. ``'auto'``: ``'fused'`` for PD-B on a CPU, where it saves
            memory, else ``'branches'``; with fixed statistics (evaluation, ``norm_eval``) one convolution with the
            equivalent kernel.

    Raises:
        UserError: If an argument is invalid, or the branches could not be reparameterised.
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
        self.replaced_norm: str | None = None  # name in the parent of the norm that followed the replaced convolution
        self.replaced_bias = bias
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
            raise UserError(f'branches={tuple(branches)}: use standard1 and any of {", ".join(BRANCHES[1:])}')
        for name, choices in (('mode', ('A', 'B')), ('execution', EXECUTIONS), ('compute', COMPUTES)):
            if getattr(self, name) not in choices:
                raise UserError(f'{name}={getattr(self, name)!r}: use one of {", ".join(choices)}')
        if not isinstance(self.reduction, int) or self.reduction < 1:
            raise UserError(f'reduction={self.reduction!r}: use a positive integer')
        size = self.kernel_size[0]
        if self.kernel_size != (size, size) or size % 2 == 0 or size == 1:
            raise UserError(f'kernel_size={self.kernel_size} cannot be disentangled: use a square, odd size above 1')
        if self.padding_mode != 'zeros':
            raise UserError(f"padding_mode={self.padding_mode!r}: use 'zeros'")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise UserError(
                f'groups={self.groups} does not divide {self.in_channels} input and {self.out_channels} output '
                'channels: use a common divisor'
            )

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
        """Create the parameters of the deployed form, with device and dtype of ``like``."""
        factory = {} if like is None else dict(device=like.device, dtype=like.dtype)
        geometry = self.kernel_size, self.stride, self.padding, self.dilation, self.groups
        channels = self.in_channels, self.out_channels
        if self.mode == 'A':
            self.reparam = nn.Conv2d(*channels, *geometry, bias=True, **factory)
            return
        count = len(self.branches)
        shape = (count, self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        # Parameters without gradient rather than buffers, so that tools that count parameters include them.
        self.reparam_weight = nn.Parameter(torch.zeros(shape, **factory), requires_grad=False)
        self.reparam_bias = nn.Parameter(torch.zeros(count, self.out_channels, **factory), requires_grad=False)

    def conv_norms(self) -> Iterator[tuple[int, ConvNorm]]:
        """Yield the index of the branch and the module for every :class:`ConvNorm` of the training form."""
        for index, name in enumerate(self.branches):
            yield from ((index, part) for part in getattr(self, name).conv_norms())

    def equivalent_kernels_biases(self) -> tuple[Tensor, Tensor]:
        """Return kernels ``[J, O, I/g, k, k]`` and biases ``[J, O]`` that equal the branches in evaluation mode."""
        pairs = [getattr(self, name).equivalent_kernel_bias(self.groups) for name in self.branches]
        return torch.stack([kernel for kernel, _ in pairs]), torch.stack([bias for _, bias in pairs])

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, I, H, W]`` to the (PD-B: weighted) sum of the branches, ``[N, O, H', W']``."""
        if self.deploy and self.mode == 'A':
            return self.reparam(x)
        if self.deploy:
            return self.mixture(x, self.reparam_weight, self.reparam_bias)
        return training_forward(self, x)

    def mixture(self, x: Tensor, kernels: Tensor, biases: Tensor) -> Tensor:
        """Return the output of PD-B for equivalent kernels ``[J, O, I/g, k, k]`` and biases ``[J, O]``."""
        pi = self.gate(x).to(kernels.dtype)
        mix = mixed_kernels_conv if self._execution(x) == 'kernel' else mixed_outputs_conv
        return mix(x, pi, kernels, biases, self.stride, self.padding, self.dilation, self.groups)

    def _execution(self, x: Tensor) -> str:
        # A traced graph must be valid for any batch size.
        if torch.onnx.is_in_onnx_export() or torch.jit.is_tracing():
            return 'output'
        if self.execution != 'auto':
            return self.execution
        positions = x.shape[2] * x.shape[3] // (self.stride[0] * self.stride[1])
        return 'output' if len(x) > 1 and positions <= MAX_OUTPUT_EXECUTION_SIZE else 'kernel'

    @torch.no_grad()
    def switch_to_deploy(self, *_: object) -> None:
        """Reparameterise in place, with running statistics; does nothing to a deployed module.

        Args:
            *_: Arguments that mmpose passes, not used.
        """
        if self.deploy:
            return
        kernels, biases = self.equivalent_kernels_biases()
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
        """Return the output computed branch by branch, also where ``compute`` would use the equivalent kernel."""
        compute, self.compute = self.compute, 'branches'
        try:
            return type(self).forward(self, x)
        finally:
            self.compute = compute

    def baseline_modules(self) -> dict[str, nn.Module]:
        """See :class:`reprefine.deploy.forms.HasBaselineModules`."""
        return conv_baseline_modules(self)

    @torch.no_grad()
    def map_output(self, weight: Tensor, shift: Tensor) -> None:
        """Compose the deployed form with a linear map of the output, ``y -> weight y + shift`` at every position.

        In PD-B the kernel and bias of every branch are mapped, which is exact because the branch weights sum to one.

        Args:
            weight: Map ``[O, O/g]``, laid out as the weight of a 1x1 convolution with ``g`` groups.
            shift: Shift ``[O]``.

        Raises:
            RuntimeError: If the module is in training form.
        """
        if not self.deploy:
            raise RuntimeError('map_output() needs the deployed form: call switch_to_deploy() first')
        is_single = self.mode == 'A'
        kernels = self.reparam.weight if is_single else self.reparam_weight
        biases = self.reparam.bias if is_single else self.reparam_bias
        mapped, mapped_biases = compose_map(kernels.flatten(-3), biases, weight, shift, self.groups)
        kernels.copy_(mapped.view_as(kernels))
        biases.copy_(mapped_biases)

    def training_form(self) -> 'PDConv':
        """Return a new module with the same arguments, in training form."""
        training_conv = PDConv(
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
        training_conv.replaced_norm = self.replaced_norm
        return training_conv

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        convert_layer_state(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Return the arguments for ``repr``."""
        return (
            f'{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, '
            f'padding={self.padding}, dilation={self.dilation}, groups={self.groups}, mode={self.mode}, '
            f'branches={self.branches}, deploy={self.deploy}'
        )


@MODELS.register_module(name='PDConv')
def pd_conv_layer(
    in_channels: int, out_channels: int, kernel_size: int | Pair, *args: object, deploy: bool = False, **kwargs: object
) -> nn.Module:
    """Build the layer of ``conv_cfg=dict(type='reprefine.PDConv', ...)``: a PDConv, or ``nn.Conv2d`` for 1x1 kernels.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Kernel size in pixels.
        *args: Further positional arguments of a convolution.
        deploy: Whether to build the deployed form.
        **kwargs: Arguments of :class:`PDConv`.
    """
    if to_2tuple(kernel_size) != (1, 1):
        return PDConv(in_channels, out_channels, kernel_size, *args, deploy=deploy, **kwargs)
    names = ('stride', 'padding', 'dilation', 'groups', 'bias', 'padding_mode')
    return nn.Conv2d(in_channels, out_channels, kernel_size, *args, **{k: v for k, v in kwargs.items() if k in names})


pd_conv_layer.baseline_config = default_layer_config
