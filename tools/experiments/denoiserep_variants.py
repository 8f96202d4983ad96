"""Variants of the DenoiseRep experiment: the baseline, its control, and the forms of DenoiseRep."""

from dataclasses import dataclass
from pathlib import Path

from runner import config_file

DATASETS = {
    'digits': 'UCI handwritten digits: 1,797 real images of 8x8 pixels (1,085 train, 357 validation, 355 test)',
    'mnist5k': 'MNIST-5k: 5,000 real images of 28x28 pixels (3,000 train, 1,000 validation, 1,000 test)',
}


@dataclass(frozen=True)
class Variant:
    """One row of the report.

    Attributes:
        name: Name of its work dirs.
        label: Name in the table.
        config: Path below ``configs`` without suffix, with a placeholder for the dataset.
        epochs: Number of epochs, which is part of the name of the last checkpoint.
        is_reparameterized: Whether the reparameterised checkpoint is tested.
        options: Values of ``--cfg-options`` in training.
    """

    name: str
    label: str
    config: str
    epochs: int = 20
    is_reparameterized: bool = True
    options: tuple[str, ...] = ()

    def config_file(self, dataset: str) -> Path:
        """Return the config for one of the datasets."""
        return config_file(self.config.format(dataset))

    def work_dir(self, out: Path, seed: int) -> Path:
        """Return the work dir of one run."""
        return out / f'{self.name}_seed{seed}'

    def checkpoint(self, out: Path, seed: int) -> Path:
        """Return the last checkpoint of one run, in training form."""
        return self.work_dir(out, seed) / f'epoch_{self.epochs}.pth'

    def tested_checkpoint(self, out: Path, seed: int) -> Path:
        """Return the checkpoint that is tested."""
        trained = self.checkpoint(out, seed)
        return trained.with_name(f'{trained.stem}_deploy.pth') if self.is_reparameterized else trained


BASELINE = Variant('baseline', 'baseline', 'baselines/classification/vit-tiny_{}', 30, is_reparameterized=False)
CONTROL = Variant(
    'control',
    'control (20 more epochs, no noise predictor)',
    'baselines/classification/vit-tiny_finetune-20e_{}',
    is_reparameterized=False,
)
DENOISEREP = Variant(
    'denoiserep', 'DenoiseRep (20 more epochs), deployed', 'denoiserep/classification/vit-tiny_denoiserep_{}'
)
# The backbone is trained in the same phases, but no layer takes a reverse step.
NO_STEP = Variant(
    'no_step',
    'control in the phases of DenoiseRep, no reverse step',
    'denoiserep/classification/vit-tiny_denoiserep-no-step_{}',
)
LABELFREE = Variant(
    'labelfree',
    'DenoiseRep label-free (20 more epochs), deployed',
    'denoiserep/classification/vit-tiny_denoiserep-labelfree_{}',
)
CLOSEDFORM = Variant(
    'closedform',
    'DenoiseRep closed form (one pass), deployed',
    'denoiserep/classification/vit-tiny_denoiserep-closedform_{}',
    epochs=1,
)
SELECTED = Variant(
    'selected',
    'DenoiseRep closed form, step chosen on validation images, deployed',
    'denoiserep/classification/vit-tiny_denoiserep-selected_{}',
    epochs=1,
)
EXTRA = {variant.name: variant for variant in (NO_STEP, LABELFREE, CLOSEDFORM, SELECTED)}
