"""State that all denoising layers of a model share: the phase, and the noise losses of the current forward pass."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .inspection import is_stochastic
from .merged_weights import MergedWeights

PHASES = ('denoise', 'backbone', 'joint', 'eval_only')


class DenoiseState:
    """The phase of a converted model and the noise losses of its layers.

    Losses are recorded only while ``forward`` of the root, the model that was converted, runs. So the sum does not
    depend on earlier passes, and a recomputation in the backward pass (activation checkpointing) adds nothing to it.

    Attributes:
        layer_names: Qualified names of the denoising layers.
        phase: One of :data:`PHASES`; see :func:`~..training.phases.set_phase`.
        denoise_eval: Whether evaluation denoises (True) or computes the output of the base model.
        generator: Generator of the noise; None for torch's global one.
        merged: Cache of the merged weights in evaluation.
        predictors: Parameters of the predictors, and whether they are trained: those of a momentum encoder are not.
        trainable: ``requires_grad`` of every other parameter as the base model set it, saved at the first phase change.
        is_reparameterized: Whether the layers have been replaced by base layers with merged weights.
        ran_outside_root: Whether a layer has computed a noise loss outside of a forward pass of the root, since the
            last one.
        root_is_training: Whether the root is in training mode, even if a part of it is kept in evaluation mode.
    """

    def __init__(self, layer_names: list[str]) -> None:
        self.layer_names = layer_names
        self.phase = 'denoise'
        self.denoise_eval = True
        self.generator: torch.Generator | None = None
        self.merged = MergedWeights()
        self.predictors: dict[nn.Parameter, bool] = {}
        self.trainable: dict[nn.Parameter, bool] = {}
        self.is_reparameterized = self.ran_outside_root = self.root_is_training = self._is_recording = False
        self._losses: dict[str, list[Tensor]] = {}
        self._sizes: dict[str, list[int]] = {}
        self._recorded: set[str] = set()
        self._stochastic: list[nn.Module] | None = None
        self._in_eval: list[nn.Module] = []
        self._checked = self._has_started = False
        self._handles: list[RemovableHandle] = []

    def register_hooks(self, root: nn.Module) -> None:
        """Attach this state and the hooks around its forward pass to a model.

        Args:
            root: The model that is converted.
        """
        root._denoise_state = self
        self._handles = [
            root.register_forward_pre_hook(self._begin_forward),
            root.register_forward_hook(self._end_forward, always_call=True),
        ]

    def restore_requires_grad(self, parameters: Iterable[nn.Parameter]) -> None:
        """Set ``requires_grad`` of parameters to what the base model had set before the first phase.

        Args:
            parameters: Any parameters of the model.
        """
        for parameter in parameters:
            parameter.requires_grad_(self.trainable.get(parameter, parameter.requires_grad))

    def mark_reparameterized(self) -> None:
        """Mark the model as reparameterised, and remove the hooks and the references to its parameters."""
        for handle in self._handles:
            handle.remove()
        self.predictors, self.trainable, self.is_reparameterized = {}, {}, True
        self.on_mode_change()

    def reset_stochastic_modules(self) -> None:
        """Search again, in the next forward pass, for the modules that run in evaluation mode in a frozen model."""
        self._stochastic = None

    def on_mode_change(self) -> None:
        """Reset what depends on the mode; called when the model, or a part of it, changes to training or evaluation."""
        self.root_is_training = self._has_started = False
        self.reset_stochastic_modules()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles leave out the generator and what belongs to the current pass, such as graphs."""
        transient: dict[str, Any] = dict(_losses={}, _sizes={}, _recorded=set(), _in_eval=[], _stochastic=None)
        return self.__dict__ | transient | {'generator': None}

    @property
    def trains_predictors(self) -> bool:
        """Whether the current phase trains the predictors."""
        return self.phase in ('denoise', 'joint')

    def _begin_forward(self, root: nn.Module, _: Any) -> None:
        """Forward pre-hook of the root: clear the losses, set norms and dropout of a frozen model to eval mode."""
        self._losses, self._sizes, self._recorded = {}, {}, set()
        self._is_recording, self.ran_outside_root, self.root_is_training = True, False, root.training
        if root.training and self.trains_predictors and not self._has_started:
            self._has_started = True
            self._unfreeze_predictors()
        if root.training and self.phase == 'denoise':
            if self._stochastic is None:
                self._stochastic = [module for module in root.modules() if is_stochastic(module)]
            self._in_eval = [module for module in self._stochastic if module.training]
            for module in self._in_eval:
                module.training = False

    def _unfreeze_predictors(self) -> None:
        """Unfreeze the predictors of frozen stages, which backbones freeze whenever they change to training mode."""
        for parameter, is_trained in self.predictors.items():
            parameter.requires_grad_(is_trained)

    def _end_forward(self, root: nn.Module, _: Any, output: Any) -> None:
        """Forward hook of the root: restore the training mode and warn once of converted layers that did not run.

        It also runs, with ``output`` None, if the forward pass has raised an error.
        """
        for module in self._in_eval:
            module.training = True
        self._in_eval, self._is_recording = [], False
        if output is not None and root.training and self.trains_predictors and not self._checked:
            self._checked = True
            unused = [name for name in self.layer_names if name not in self._recorded]
            if unused:
                warnings.warn(
                    f'{len(unused)} converted layers did not run in the forward pass, so their predictors are not '
                    f'trained: {", ".join(unused[:5])}; exclude them',
                    stacklevel=2,
                )

    def record(self, layer_name: str, loss: Tensor, size: int) -> None:
        """Record the noise loss of one call of a layer.

        Args:
            layer_name: Qualified name of the layer.
            loss: Scalar, the mean over ``size`` elements.
            size: Number of elements of the feature.
        """
        if self._is_recording:
            self._recorded.add(layer_name)
            self._losses.setdefault(layer_name, []).append(loss)
            self._sizes.setdefault(layer_name, []).append(size)
        elif torch._C._current_graph_task_id() == -1:  # otherwise a backward pass recomputes the layer
            self.ran_outside_root = True

    def pop_losses(self) -> dict[str, Tensor]:
        """Return the noise loss per layer of the last forward pass and clear it.

        A layer that ran several times (a head shared between feature levels) gets one mean over all its elements.
        """
        losses, sizes = self._losses, self._sizes
        self._losses, self._sizes = {}, {}
        return {
            name: sum(loss * size for loss, size in zip(terms, sizes[name], strict=True)) / sum(sizes[name])
            if len(terms) > 1
            else terms[0]
            for name, terms in losses.items()
        }
