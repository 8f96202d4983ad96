"""``F`` from fewer views, compared with ``F`` from all views."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from reprefine.methods.dvt import Stage1, Stage1Config
from reprefine.methods.dvt.visualization.position_metrics import centered_correlation

from .stage1 import (
    ImageViews,
    denoise_views,
    extract_views,
    known_pattern,
    stage1_config,
)

OTHER_VIEWS = 1000  # added to the seed of the views of the reference
Values = dict[str, Any]


def compare_solver_views(
    seed: int, images: Sequence[np.ndarray], sizes: Any, config: Stage1Config | None = None
) -> dict[str, Values]:
    """Return correlations and CPU seconds by solver and number of views.

    Args:
        seed: Seed of the views; also decides which images are used.
        images: Images, RGB ``[H, W, 3]``, 8 bit.
        sizes: Sizes of the experiment.
        config: Settings of stage 1; default those of the shipped ViT.
    """
    start = seed * sizes.compared % len(images)
    chosen = images[start : start + sizes.compared]
    names = [f'{start + number}' for number in range(len(chosen))]
    config = replace(config or stage1_config(), num_views=sizes.views[-1], seed=seed, field=sizes.field)
    closed, pattern = Stage1(config), known_pattern()
    other = Stage1(replace(config, seed=seed + OTHER_VIEWS), backbone=closed.extractor.backbone)
    reference = denoise_views(other, extract_views(other, chosen, names), names)[0]
    data = extract_views(closed, chosen, names)
    raw = data.first(0).features
    values = {
        'raw features': dict(
            pattern=_mean(centered_correlation(x + pattern, y[None]) for x, y in zip(raw, reference, strict=True)),
            natural=_mean(centered_correlation(x, y[None]) for x, y in zip(raw, reference, strict=True)),
        )
    }
    values |= _measure(closed, data, names, sizes.views, reference, pattern, 'closed form', natural=True)
    field = Stage1(replace(config, solver='field'), backbone=closed.extractor.backbone)
    one = ImageViews(data.features[:1], data.views[:1], data.seconds)
    values |= _measure(field, one, names[:1], sizes.field_views, reference[:1], pattern, 'field', natural=False)
    return values


def _measure(
    stage1: Stage1,
    data: ImageViews,
    names: Sequence[str],
    counts: Sequence[int],
    reference: Tensor,
    pattern: Tensor,
    label: str,
    natural: bool,
) -> dict[str, Values]:
    """Return the values of one solver by number of views."""
    measured, found = {}, {}
    for count in counts:
        part = data.first(count, pattern)
        found[count], seconds = denoise_views(stage1, part, names)
        values = dict(pattern=centered_correlation(found[count], reference), extraction=part.seconds, solver=seconds)
        if natural:
            clean = denoise_views(stage1, data.first(count), names)[0]
            values['natural'] = centered_correlation(clean, reference)
        measured[f'{label}, {count} views'] = values
    for count, values in zip(counts, measured.values(), strict=True):
        values['own'] = centered_correlation(found[count], found[counts[-1]])
    return measured


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
