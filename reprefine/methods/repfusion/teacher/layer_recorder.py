"""Recording of layer outputs by forward hooks, with early exit after the last recorded layer."""

import contextlib
import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from reprefine.engine.errors import UserError


class _EarlyExit(Exception):
    """Raised by a hook to stop a forward pass after the last recorded layer."""


class LayerRecorder:
    """Forward hooks that record the outputs of some layers during :meth:`record`.

    Of a layer that runs several times in a pass, such as the activation of a ResNet block, the last output counts. What
    runs outside :meth:`record`, such as the recomputation of a checkpointed stage in the backward pass, is not
    recorded. A deep copy of the network with its recorder records its own layers.

    Args:
        network: The network.
        paths: Dotted paths of the layers below the network.
        early_exit: Stop the forward pass after the last recorded layer; takes effect after :meth:`dry_run`.

    Raises:
        UserError: If the network has no such layer.
    """

    def __init__(self, network: nn.Module, paths: Sequence[str], early_exit: bool = False) -> None:
        self.paths = tuple(paths)
        self.early_exit = early_exit
        for path in self.paths:
            get_layer(network, path)
        self._layers: list[nn.Module] = []  # with hooks; none before the first pass
        self._handles: list[RemovableHandle] = []
        self._outputs: list[Tensor | None] = [None] * len(self.paths)
        self._needs_clone = [True] * len(self.paths)  # a later layer may work in place on the output
        self._is_recording = False
        self._num_calls = 0
        self._calls_of_a_pass: int | None = None  # of all recorded layers; None before the dry run

    def _keep(self, index: int, module: nn.Module, inputs: Any, output: Any) -> None:
        if not self._is_recording:
            return
        while isinstance(output, tuple | list):  # several maps, or a map and a class token
            output = output[0]
        self._outputs[index] = output.clone() if self._needs_clone[index] else output
        self._num_calls += 1
        if self.early_exit and self._num_calls == self._calls_of_a_pass:
            raise _EarlyExit

    def start(self, network: nn.Module) -> None:
        """Start recording.

        Args:
            network: The network, whose layers may have been replaced since the last pass, such as by SyncBN.
        """
        layers = [network.get_submodule(path) for path in self.paths]
        if layers != self._layers:
            self._register_hooks(layers)
        self._outputs = [None] * len(self.paths)
        self._num_calls, self._is_recording = 0, True

    def _register_hooks(self, layers: list[nn.Module]) -> None:
        for handle in self._handles:
            handle.remove()
        # Unlike a closure, a partial of a method is deep-copied together with the recorder.
        self._handles = [layer.register_forward_hook(partial(self._keep, i)) for i, layer in enumerate(layers)]
        self._layers = layers

    def stop(self) -> list[Tensor | None]:
        """Stop recording, and return and release the outputs; None for a layer that has not run."""
        self._is_recording = False
        outputs, self._outputs = self._outputs, [None] * len(self._outputs)
        return outputs

    def record(self, network: nn.Module, run: Callable[[], Any]) -> list[Tensor | None]:
        """Return the outputs of the layers in a forward pass.

        Args:
            network: The network.
            run: Runs the forward pass.
        """
        self.start(network)
        with contextlib.suppress(_EarlyExit):
            run()
        return self.stop()

    def dry_run(self, network: nn.Module, run: Callable[[], Any], channels: Sequence[int | None]) -> list[int]:
        """Run a full pass, and return the number of channels of each layer.

        Afterwards an output is cloned only if a later layer changed it in place, and early exit takes effect. Without
        a dry run all outputs are cloned.

        Args:
            network: The network.
            run: Runs the forward pass.
            channels: Expected number of channels of each layer; None: any.

        Raises:
            UserError: If a layer does not run, its output is no feature map, or it has other channels than expected.
        """
        self._needs_clone, self._calls_of_a_pass = [False] * len(self.paths), None
        outputs = self.record(network, run)
        for path, output, expected in zip(self.paths, outputs, channels, strict=True):
            check_feature_map(output, f'teacher layer {path}')
            if expected is not None and output.shape[1] != expected:
                raise UserError(
                    f'teacher layer {path} has {output.shape[1]} channels, not {expected} as layers says: correct the '
                    'number in layers, or give None'
                )
        self._calls_of_a_pass = self._num_calls
        self._needs_clone = [output._version > 0 for output in outputs]
        return [output.shape[1] for output in outputs]

    def records_within(self, module: nn.Module) -> bool:
        """Return whether ``module`` contains a recorded layer."""
        return any(layer in self._layers for layer in module.modules())


def check_feature_map(output: Tensor | None, layer: str) -> None:
    """Raise an error if a recorded output is no feature map ``[N, C, H, W]``.

    Args:
        output: The output; None if the layer has not run.
        layer: The layer, for the message.

    Raises:
        UserError: If it is none.
    """
    if output is None:
        raise UserError(f'{layer} does not run in the forward pass: choose another layer')
    if output.dim() != 4:
        raise UserError(f'{layer} has an output of shape {list(output.shape)}, no feature map: choose another layer')


def get_layer(network: nn.Module, path: str) -> nn.Module:
    """Return a submodule by its dotted path.

    Raises:
        UserError: If there is none; it names the most similar paths.
    """
    modules = dict(network.named_modules())
    if path not in modules or path == '':
        similar = ', '.join(difflib.get_close_matches(path, modules, n=3, cutoff=0.4)) or ', '.join(list(modules)[1:4])
        raise UserError(f"{type(network).__name__} has no layer '{path}'; similar ones: {similar}")
    return modules[path]
