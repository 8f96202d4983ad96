"""What all denoising layers of one model share: the phase, and the noise losses of the running forward pass."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..training.frozen import is_stochastic
from .merged import MergedWeights

PHASES = ('denoise', 'backbone', 'joint', 'eval_only')


class DenoiseState:
    """Phase switch and collector of noise losses.

    The collector is open only while the root model's own ``forward`` runs. That makes the sum independent of earlier,
    unread passes, and a recomputation during backward (activation checkpointing) cannot add to it.

    Attributes:
        layer_names: Qualified names of the denoising layers.
        phase: One of :data:`PHASES`; see :func:`~.phases.set_phase`.
        denoise_eval: Whether evaluation uses the denoised layers (True) or the plain host.
        generator: Generator of the noise, None for torch's global one.
        merged: Merged weights of the layers in evaluation.
        predictors: The parameters of the predictors, and whether they learn: those of a momentum encoder do not.
        trainable: ``requires_grad`` of every other parameter as the base model set it, taken at the first phase change.
        is_fused: Whether the layers have become plain ones.
        ran_outside: Whether a layer has computed a noise loss, since the last forward pass of the root, outside of it.
        root_trains: Whether the root is in training mode, even where a part of it is kept in evaluation mode.
    """

    def __init__(self, layer_names: list[str]) -> None:
        self.layer_names = layer_names
        self.phase = 'denoise'
        self.denoise_eval = True
        self.generator: torch.Generator | None = None
        self.merged = MergedWeights()
        self.predictors: dict[nn.Parameter, bool] = {}
        self.trainable: dict[nn.Parameter, bool] = {}
        self.is_fused = self.ran_outside = self.root_trains = self._is_open = False
        self._losses: dict[str, list[Tensor]] = {}
        self._sizes: dict[str, list[int]] = {}
        self._recorded: set[str] = set()
        self._stochastic: list[nn.Module] | None = None
        self._paused: list[nn.Module] = []
        self._checked = self._has_begun = False
        self._handles: list[RemovableHandle] = []

    def watch(self, root: nn.Module) -> None:
        """Open and close the collector with every forward pass of ``root``, and be found there."""
        root._denoise_state = self
        self._handles = [
            root.register_forward_pre_hook(self._begin_forward),
            root.register_forward_hook(self._end_forward, always_call=True),
        ]

    def thaw(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give parameters the ``requires_grad`` that the base model had set, where a phase has changed it."""
        for parameter in parameters:
            parameter.requires_grad_(self.trainable.get(parameter, parameter.requires_grad))

    def end(self) -> None:
        """Undo :meth:`watch` and let go of the model, whose layers are plain from now on."""
        for handle in self._handles:
            handle.remove()
        self.predictors, self.trainable, self.is_fused = {}, {}, True
        self.forget_mode()

    def forget_modules(self) -> None:
        """Let the next forward pass look anew for the modules that a frozen model must have in evaluation mode."""
        self._stochastic = None

    def forget_mode(self) -> None:
        """Take note that the model, or a part of it, changes to training or evaluation."""
        self.root_trains = self._has_begun = False
        self.forget_modules()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave out what belongs to a running pass: graphs, and the generator."""
        passing = {'_losses': {}, '_sizes': {}, '_recorded': set(), '_paused': [], '_stochastic': None}
        return self.__dict__ | passing | {'generator': None}

    @property
    def learns_noise(self) -> bool:
        """Whether the current phase trains the predictors."""
        return self.phase in ('denoise', 'joint')

    def _begin_forward(self, root: nn.Module, _: Any) -> None:
        """Forward pre-hook of the root: empty the collector; keep norm statistics and dropout out of a frozen model."""
        self._losses, self._sizes, self._recorded = {}, {}, set()
        self._is_open, self.ran_outside, self.root_trains = True, False, root.training
        if root.training and self.learns_noise and not self._has_begun:
            self._has_begun = True
            self._unfreeze_predictors()
        if root.training and self.phase == 'denoise':
            if self._stochastic is None:
                self._stochastic = [module for module in root.modules() if is_stochastic(module)]
            self._paused = [module for module in self._stochastic if module.training]
            for module in self._paused:
                module.training = False

    def _unfreeze_predictors(self) -> None:
        """Undo what backbones do whenever they change to training: freeze all parameters of their first stages."""
        for parameter, learns in self.predictors.items():
            parameter.requires_grad_(learns)

    def _end_forward(self, root: nn.Module, _: Any, output: Any) -> None:
        """Forward hook of the root: close the collector, undo the pause, report layers that never ran.

        It also runs, with ``output`` None, when the forward pass has failed.
        """
        for module in self._paused:
            module.training = True
        self._paused, self._is_open = [], False
        if output is not None and root.training and self.learns_noise and not self._checked:
            self._checked = True
            silent = [name for name in self.layer_names if name not in self._recorded]
            if silent:
                warnings.warn(
                    f'{len(silent)} converted layers did not run in the forward pass, so their predictors learn '
                    f'nothing: {", ".join(silent[:5])}; exclude them',
                    stacklevel=2,
                )

    def record(self, layer_name: str, loss: Tensor, size: int) -> None:
        """Add the noise loss of one call of a layer, a mean over ``size`` elements."""
        if self._is_open:
            self._recorded.add(layer_name)
            self._losses.setdefault(layer_name, []).append(loss)
            self._sizes.setdefault(layer_name, []).append(size)
        elif torch._C._current_graph_task_id() == -1:  # else a backward pass recomputes the layer
            self.ran_outside = True

    def take(self) -> dict[str, Tensor]:
        """Return the noise loss per layer of the last forward pass and forget it.

        A layer that ran several times (a head shared between feature levels) yields one mean over all its elements.
        """
        losses, sizes = self._losses, self._sizes
        self._losses, self._sizes = {}, {}
        return {
            name: sum(loss * size for loss, size in zip(terms, sizes[name], strict=True)) / sum(sizes[name])
            if len(terms) > 1
            else terms[0]
            for name, terms in losses.items()
        }
