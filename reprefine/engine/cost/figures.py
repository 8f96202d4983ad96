"""How a comparison is made, and what one line of it says."""

from collections.abc import Sequence
from dataclasses import dataclass

from .timing import Spread

PARTS = ('train', 'inference', 'memory', 'flops')
TRAINED, FOLDED = 'as trained', 'folded'


@dataclass(frozen=True)
class Settings:
    """How a comparison is made.

    Attributes:
        parts: Which of :data:`PARTS` to measure; parameters are always counted.
        repeats: Timed rounds.
        warmup: Rounds before them that are not kept.
        batch_size: Images per batch, default that of the training data loader.
        input_shape: Height and width in pixels of random images for everything but training, default real images.
        device: Torch device.
        amp: Automatic mixed precision: float16 on CUDA, bfloat16 on the CPU.
        deploy: Fold both models for everything but training.
        data_root_given: The user named the data: missing data is then an error.
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
        return FOLDED if self.deploy else TRAINED


@dataclass(frozen=True)
class Figure:
    """One line of the comparison.

    Attributes:
        name: What is measured.
        unit: Its unit.
        form: Form of the models: ``as trained`` or ``folded``.
        source: What they were fed with.
        config: Values of the model.
        baseline: Values of the baseline.
        ratio: Ratios, model over baseline, round by round; None if the baseline's value is zero.
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


def exact(name: str, unit: str, values: Sequence[float], form: str, source: str) -> Figure:
    """Make a figure of values that do not vary.

    Args:
        name: What is measured.
        unit: Its unit.
        values: The value of the model and that of the baseline.
        form: Form of the models.
        source: What they were fed with.
    """
    ours, theirs = (Spread(value, 0, 1) for value in values)
    ratio = Spread(ours.median / theirs.median, 0, 1) if theirs.median else None
    return Figure(name, unit, form, source, ours, theirs, ratio)
