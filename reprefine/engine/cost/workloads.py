"""The workloads whose cost is measured: training steps and predictions."""

import contextlib
import copy
from collections.abc import Callable, Sequence

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from reprefine.engine.optim import use_amp

from .counting import forward
from .inputs import InputBatch
from .models import quiet_log
from .phases import Phase
from .rows import Settings
from .timing import Workload, interleave

NO_PHASE = Phase()


class Workloads:
    """Prepares training steps and predictions of models, each on a copy of its batch.

    Args:
        settings: Settings of the comparison.
        device: Device of the models.
        train_batch: Input of training steps, None if there is none.
        input_batch: Input of predictions.
    """

    def __init__(
        self, settings: Settings, device: torch.device, train_batch: InputBatch | None, input_batch: InputBatch
    ):
        self.settings = settings
        self.device = device
        self.train_batch = train_batch
        self.input_batch = input_batch

    def build_optim_wrapper(self, cfg: Config, model: nn.Module) -> OptimWrapper:
        """Build the optimizer wrapper of a config for a model."""
        optim_cfg = copy.deepcopy(cfg.optim_wrapper)
        if self.settings.amp:
            use_amp(optim_cfg, on_gpu=self.device.type == 'cuda')
        with quiet_log():
            return build_optim_wrapper(model, optim_cfg)

    def train_step(self, model: nn.Module, optimizer: OptimWrapper, phase: Phase = NO_PHASE) -> Callable[[], Workload]:
        """Return a function that prepares a training step: preprocessing, loss, backward pass and optimizer step.

        Args:
            model: The model.
            optimizer: Its optimizer wrapper.
            phase: Phase that the model is set to first.
        """

        def prepare() -> Workload:
            phase.apply(model)
            model.train()
            data = copy.deepcopy(self.train_batch.data)
            return lambda: model.train_step(data, optimizer)

        return prepare

    def predict(self, model: nn.Module) -> Callable[[], Workload]:
        """Return a function that prepares a forward pass in ``mode='predict'``, without preprocessing."""

        def prepare() -> Workload:
            model.eval()
            data = model.data_preprocessor(copy.deepcopy(self.input_batch.data), False)

            @torch.no_grad()
            def work() -> None:
                with torch.autocast(self.device.type) if self.settings.amp else contextlib.nullcontext():
                    forward(model, data, 'predict')

            return work

        return prepare

    def time(self, prepare: Sequence[Callable[[], Workload]]) -> tuple[list[float], ...]:
        """Time workloads alternately, see :func:`~.timing.interleave`."""
        wait = (lambda: torch.cuda.synchronize(self.device)) if self.device.type == 'cuda' else (lambda: None)
        return interleave(prepare, self.settings.repeats, self.settings.warmup, wait)
