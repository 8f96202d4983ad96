"""Settings of a comparison, and the rows of its report."""

from collections.abc import Sequence
from dataclasses import dataclass

from .timing import Spread

PARTS = ('train', 'inference', 'memory', 'flops')
TRAINED, DEPLOYED = 'as trained', 'deployed'


@dataclass(frozen=True)
class Settings:
    """Settings of a comparison.

    Attributes:
        parts: Those of :data:`PARTS` to measure; parameters are always counted.
        repeats: Timed rounds.
        warmup: Rounds before them that are not timed.
        batch_size: Images per batch, default that of the training data loader.
        input_shape: Height and width in pixels of random images for everything but training, default real images.
        device: Torch device.
        amp: Automatic mixed precision: float16 on CUDA, bfloat16 on the CPU.
        deploy: Switch both models to the deployed form for everything but training.
        data_root_given: Whether the user named the data root; missing data is then an error.
    """

    parts: Sequence[str] = PARTS
    repeats: int = 20
    warmup: int = 5
    batch_size: int | None = None
    input_shape: tuple[int, int] | None = None
    device: str = 'cpu'
    amp: bool = False
    deploy: bool = False
    data_root_given: bool = False

    @property
    def form(self) -> str:
        """Form of the models for everything but training."""
        return DEPLOYED if self.deploy else TRAINED


@dataclass(frozen=True)
class CostRow:
    """A row of the report.

    Attributes:
        name: What is measured.
        unit: Its unit.
        form: Form of the models: ``as trained`` or ``deployed``.
        source: Source of the input.
        config: Values of the config's model.
        baseline: Values of the baseline.
        ratio: Ratios, config over baseline, of each round; None if the baseline's value is zero.
        not_measured: Reason why the values are missing.
    """

    name: str
    unit: str
    form: str
    source: str = ''
    config: Spread | None = None
    baseline: Spread | None = None
    ratio: Spread | None = None
    not_measured: str = ''


def constant_row(name: str, unit: str, values: Sequence[float], form: str, source: str) -> CostRow:
    """Make a row of values that are the same in every round.

    Args:
        name: What is measured.
        unit: Its unit.
        values: The values of config and baseline.
        form: Form of the models.
        source: Source of the input.
    """
    config, baseline = (Spread(value, 0, 1) for value in values)
    ratio = Spread(config.median / baseline.median, 0, 1) if baseline.median else None
    return CostRow(name, unit, form, source, config, baseline, ratio)
