"""What the demo trains: the baseline, its control, and the forms of DenoiseRep."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATASETS = {
    'digits': 'UCI handwritten digits: 1,797 real images of 8x8 pixels (1,085 train, 357 validation, 355 test)',
    'mnist5k': 'MNIST-5k: 5,000 real images of 28x28 pixels (3,000 train, 1,000 validation, 1,000 test)',
}


@dataclass(frozen=True)
class Variant:
    """One row of the report.

    Attributes:
        name: Short name, also of its folders.
        label: Name in the table.
        config: Path below ``configs``, with a place for the dataset.
        epochs: Number of epochs, which names the last checkpoint.
        is_folded: Whether the folded checkpoint is the one to test.
        options: Settings of the config that training overrides, as ``key=value``.
    """

    name: str
    label: str
    config: str
    epochs: int = 20
    is_folded: bool = True
    options: tuple[str, ...] = ()

    def config_file(self, dataset: str) -> Path:
        """Return the config for one of the datasets."""
        return ROOT / 'configs' / f'{self.config.format(dataset)}.py'

    def folder(self, out: Path, seed: int) -> Path:
        """Return the work dir of one run."""
        return out / f'{self.name}_seed{seed}'

    def checkpoint(self, out: Path, seed: int) -> Path:
        """Return the last checkpoint of one run, as it was trained."""
        return self.folder(out, seed) / f'epoch_{self.epochs}.pth'

    def tested_checkpoint(self, out: Path, seed: int) -> Path:
        """Return the checkpoint that is tested."""
        trained = self.checkpoint(out, seed)
        return trained.with_name(f'{trained.stem}_deploy.pth') if self.is_folded else trained


BASELINE = Variant('baseline', 'baseline', 'baselines/classification/vit-tiny_{}', 30, is_folded=False)
CONTROL = Variant(
    'control',
    'control (20 more epochs, no noise predictor)',
    'baselines/classification/vit-tiny_finetune-20e_{}',
    is_folded=False,
)
DENOISEREP = Variant(
    'denoiserep', 'DenoiseRep (20 more epochs), deployed', 'denoiserep/classification/vit-tiny_denoiserep_{}'
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
EXTRA = {variant.name: variant for variant in (LABELFREE, CLOSEDFORM)}
