"""The pieces of work whose cost is measured: training steps and predictions."""

import contextlib
import copy
from collections.abc import Callable, Sequence

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from torch import nn

from reprefine.engine.optim import use_amp

from .counting import forward
from .figures import Settings
from .inputs import Batch
from .models import quiet_log
from .phases import Phase
from .timing import Work, interleave

NO_PHASE = Phase()


class Steps:
    """Prepares the work of models, each piece on a copy of its batch.

    Args:
        settings: How the comparison is made.
        device: Where the models are.
        train_batch: Input of training steps, None if there is none.
        input_batch: Input of predictions.
    """

    def __init__(self, settings: Settings, device: torch.device, train_batch: Batch | None, input_batch: Batch):
        self.settings = settings
        self.device = device
        self.train_batch = train_batch
        self.input_batch = input_batch

    def optimizer(self, cfg: Config, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of a config for a model."""
        optim_cfg = copy.deepcopy(cfg.optim_wrapper)
        if self.settings.amp:
            use_amp(optim_cfg, on_gpu=self.device.type == 'cuda')
        with quiet_log():
            return build_optim_wrapper(model, optim_cfg)

    def train(self, model: nn.Module, optimizer: OptimWrapper, phase: Phase = NO_PHASE) -> Callable[[], Work]:
        """Return what prepares a training step: preprocessing, loss, backward pass and optimiser step.

        Args:
            model: The model.
            optimizer: Its optimizer.
            phase: Phase that the model is set to first.
        """

        def prepare() -> Work:
            phase.enter(model)
            model.train()
            data = copy.deepcopy(self.train_batch.data)
            return lambda: model.train_step(data, optimizer)

        return prepare

    def predict(self, model: nn.Module) -> Callable[[], Work]:
        """Return what prepares a forward pass in ``mode='predict'``; preprocessing is no part of it."""

        def prepare() -> Work:
            model.eval()
            data = model.data_preprocessor(copy.deepcopy(self.input_batch.data), False)

            @torch.no_grad()
            def work() -> None:
                with torch.autocast(self.device.type) if self.settings.amp else contextlib.nullcontext():
                    forward(model, data, 'predict')

            return work

        return prepare

    def seconds(self, prepare: Sequence[Callable[[], Work]]) -> tuple[list[float], ...]:
        """Time pieces of work in turn, see :func:`~.timing.interleave`."""
        wait = (lambda: torch.cuda.synchronize(self.device)) if self.device.type == 'cuda' else (lambda: None)
        return interleave(prepare, self.settings.repeats, self.settings.warmup, wait)
