"""Memory bank of labelled features with a maximum size."""

import torch
from mmengine.dist import all_gather_object, get_rank
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .functional import LabelledFeatures


class MemoryBank(nn.Module):
    """Labelled features, or a random sample of ``max_entries`` of them if there are more.

    Every entry draws a priority between 0 and 1, and the entries with the highest priorities are kept: a uniform sample
    of all entries added, in any order. The bank is part of the state dict.

    Args:
        channels: Channels C of the features.
        num_classes: Number of classes.
        max_entries: Maximum number of entries; None keeps all.
        seed: Seed of the priorities.
    """

    def __init__(self, channels: int, num_classes: int, max_entries: int | None = None, seed: int = 0):
        super().__init__()
        self.max_entries = max_entries
        self.seed = seed
        self._rows = torch.empty(0, channels + num_classes)
        self._priorities = torch.empty(0)
        self._added: list[tuple[Tensor, Tensor]] = []
        self._channels = channels
        self.clear()

    def clear(self) -> None:
        """Remove all entries and reset the random generator."""
        self._rows, self._priorities, self._added = self._rows[:0], self._priorities[:0], []
        self._generator = torch.Generator().manual_seed(self.seed + get_rank())

    def add(self, entries: LabelledFeatures) -> None:
        """Add entries, detached and in float32 on the CPU."""
        rows = torch.cat(entries, 1).detach().float().cpu()
        self._added.append((rows, torch.rand(len(rows), generator=self._generator)))
        pending = sum(len(rows) for rows, _ in self._added)
        if self.max_entries is not None and pending > self.max_entries:
            self._merge()

    def _merge(self) -> None:
        """Merge the added entries into the bank and keep those with the highest priorities, in their order."""
        if not self._added:
            return
        rows, priorities = zip((self._rows.cpu(), self._priorities), *self._added, strict=True)
        self._rows, self._priorities, self._added = torch.cat(rows), torch.cat(priorities), []
        if self.max_entries is not None and len(self._rows) > self.max_entries:
            kept = self._priorities.topk(self.max_entries).indices.sort().values
            self._rows, self._priorities = self._rows[kept], self._priorities[kept]

    def gather(self) -> None:
        """Gather the entries of all processes in each process."""
        self._merge()
        gathered: list = all_gather_object((self._rows, self._priorities))
        self._rows, self._priorities, self._added = self._rows[:0], self._priorities[:0], gathered
        self._merge()

    def entries(self, device: torch.device | str = 'cpu') -> LabelledFeatures:
        """Return all entries on a device; the bank stays there until entries are added."""
        self._merge()
        self._rows = self._rows.to(device)
        return LabelledFeatures(self._rows[:, : self._channels], self._rows[:, self._channels :])

    def __len__(self) -> int:
        self._merge()
        return len(self._rows)

    def get_extra_state(self) -> Tensor:
        """Return features and class shares, concatenated, shape (M, C + num_classes)."""
        self._merge()
        return self._rows.cpu()

    def set_extra_state(self, state: Tensor) -> None:
        """Load the entries of a state dict.

        Raises:
            UserError: If the number of channels plus classes differs.
        """
        width = self._rows.shape[1]
        if not torch.is_tensor(state) or state.ndim != 2 or state.shape[1] != width:
            shape = tuple(state.shape) if torch.is_tensor(state) else type(state).__name__
            raise UserError(
                f'size mismatch for the memory bank: {shape} in the checkpoint, (M, {width}) in the config (channels '
                'plus classes): test with the config that filled it'
            )
        self.clear()
        self._rows, self._priorities = state.cpu(), torch.ones(len(state))
