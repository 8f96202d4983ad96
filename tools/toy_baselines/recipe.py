"""What a run on toy data is, and the options that many of them share."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Recipe:
    """One baseline on the toy data of its benchmark.

    Attributes:
        toy_set: Name of the toy data.
        data_root: Their folder below the folder of all toy data.
        config: Path below ``configs/baselines``, without suffix.
        checkpoint: File that the run leaves last.
        metric: Key of the metric in the test's result, or ``loss`` for the last training loss.
        measure: Name of the metric in the table.
        chance: Function of ``chance.py`` that says what an ignorant predictor reaches.
        train: Options of training only.
        both: Options of training and test.
        lower_is_better: Whether a small value of the metric is good.
        factor: What the metric is multiplied by, 100 to make a share a percentage.
        preparation: Converter below ``tools`` and its arguments after the data root.
    """

    toy_set: str
    data_root: str
    config: str
    checkpoint: str
    metric: str
    measure: str
    chance: str
    train: tuple[str, ...] = ()
    both: tuple[str, ...] = ()
    lower_is_better: bool = False
    factor: float = 1.0
    preparation: tuple[str, ...] = ()

    @property
    def config_file(self) -> Path:
        """The config's path."""
        return ROOT / 'configs/baselines' / f'{self.config}.py'


def loaders(*extra: str) -> tuple[str, ...]:
    """Return options that read the data in the training process, and ``extra``."""
    names = ('train_dataloader', 'val_dataloader')
    return (*(f'{name}.num_workers=0' for name in names), *extra)


def persistent_loaders(*extra: str) -> tuple[str, ...]:
    """Return those of :func:`loaders` for configs that keep their worker processes."""
    names = ('train_dataloader', 'val_dataloader')
    return loaders(*(f'{name}.persistent_workers=False' for name in names), *extra)


def epochs(number: int, *extra: str) -> tuple[str, ...]:
    """Return options for so many epochs, with one validation at their end."""
    return (f'train_cfg.max_epochs={number}', f'train_cfg.val_interval={number}', *extra)


def iterations(number: int, *extra: str) -> tuple[str, ...]:
    """Return options for so many iterations, with one validation and one checkpoint at their end."""
    options = (f'train_cfg.max_iters={number}', f'train_cfg.val_interval={number}')
    return (*options, f'default_hooks.checkpoint.interval={number}', *extra)
