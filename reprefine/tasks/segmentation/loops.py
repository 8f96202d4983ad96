"""Training loop that fills a memory bank, and its optimizer without effect."""

from typing import Any

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import DataLoader

from reprefine.engine.build import unwrap
from reprefine.registry import LOOPS, OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NothingToTrain:
    """Builds the optimizer of a run that trains no weights: mmengine requires one, and torch requires a parameter.

    Args:
        optim_wrapper_cfg: Not used.
        paramwise_cfg: Not used.
    """

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None):
        pass

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Return an optimizer of a parameter that is not part of the model."""
        return OptimWrapper(torch.optim.SGD([nn.Parameter(torch.zeros(()))], lr=0.0))


@LOOPS.register_module()
class MemoryBankLoop(EpochBasedTrainLoop):
    """One epoch over the training data that fills the memory bank of a :class:`~.heads.KNNHead`, without optimization.

    Args:
        runner: The runner.
        dataloader: Training data loader.
        val_begin: First epoch (1-based) with a validation after it.
        val_interval: Epochs between validations.
    """

    def __init__(self, runner: Any, dataloader: DataLoader | dict, val_begin: int = 1, val_interval: int = 1) -> None:
        super().__init__(runner, dataloader, max_epochs=1, val_begin=val_begin, val_interval=val_interval)

    @property
    def model(self) -> nn.Module:
        """The model without a distributed wrapper."""
        return unwrap(self.runner.model)

    def run(self) -> nn.Module:
        """Fill the bank, without parameter schedulers, because the optimizer takes no step."""
        self.runner.param_schedulers = []
        return super().run()

    def run_epoch(self) -> None:
        """Fill the bank from all training images and gather the entries of all processes."""
        self.runner.call_hook('before_train_epoch')
        self.model.eval()
        bank = self.model.decode_head.bank
        bank.clear()
        for index, batch in enumerate(self.dataloader):
            self.run_iter(index, batch)
        bank.gather()
        self.runner.logger.info(f'The memory bank has {len(bank)} entries')
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    @torch.no_grad()
    def run_iter(self, idx: int, data_batch: dict) -> None:
        """Add the images of a batch."""
        self.runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        data = self.model.data_preprocessor(data_batch, True)
        self.model(**data, mode='loss')
        self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs={})
        self._iter += 1
