"""The class of a recipe on toy data, and options that several recipes share."""

from dataclasses import dataclass
from pathlib import Path

from runner import config_file


@dataclass(frozen=True)
class Recipe:
    """One baseline on the toy data of its benchmark.

    Attributes:
        toy_set: Name of the toy data.
        data_root: Its folder below the folder of all toy data.
        config: Path below ``configs/baselines``, without suffix.
        checkpoint: File name of the last checkpoint.
        metric: Key of the metric in the output of the test, or ``loss`` for the last training loss.
        measure: Name of the metric in the table.
        chance: Name of the function of ``chance.py`` that returns the chance level.
        train: ``--cfg-options`` of training only.
        both: ``--cfg-options`` of training and test.
        lower_is_better: Whether a small value of the metric is good.
        factor: Factor of the metric, 100 to convert a fraction to percent.
        preparation: Converter below ``tools``, and its arguments after the data root.
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
        """The config file."""
        return config_file(f'baselines/{self.config}')


def loaders(*extra: str) -> tuple[str, ...]:
    """Return options that load the data in the training process, and ``extra``."""
    names = ('train_dataloader', 'val_dataloader')
    return (*(f'{name}.num_workers=0' for name in names), *extra)


def persistent_loaders(*extra: str) -> tuple[str, ...]:
    """Return the options of :func:`loaders` for configs with persistent workers."""
    names = ('train_dataloader', 'val_dataloader')
    return loaders(*(f'{name}.persistent_workers=False' for name in names), *extra)


def epochs(number: int, *extra: str) -> tuple[str, ...]:
    """Return options for ``number`` epochs with one validation after the last."""
    return (f'train_cfg.max_epochs={number}', f'train_cfg.val_interval={number}', *extra)


def iterations(number: int, *extra: str) -> tuple[str, ...]:
    """Return options for ``number`` iterations with one validation and one checkpoint after the last."""
    options = (f'train_cfg.max_iters={number}', f'train_cfg.val_interval={number}')
    return (*options, f'default_hooks.checkpoint.interval={number}', *extra)
