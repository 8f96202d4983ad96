"""What a section of the tour shows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[[float], None]


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes:
        file: PNG file in the folder of the report.
        caption: What is to be seen, one or two sentences.
    """

    file: Path
    caption: str


@dataclass(frozen=True)
class Section:
    """What the report says about one method. All texts are Markdown.

    Attributes:
        what: What was done here and what the reader sees, one paragraph.
        number: The measured number beside its control, one sentence or a small table.
        figures: Figures, usually one.
        limits: What the method did not do, here or in the full experiment: one paragraph, never empty.
        experiment: Command of the full experiment.
        minutes: Its running time in minutes on 2 cores.
        own_model: How to do it with a model of one's own: text with a code block.
    """

    what: str
    number: str
    figures: tuple[Figure, ...]
    limits: str
    experiment: str
    minutes: int
    own_model: str
