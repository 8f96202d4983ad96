"""Test pipelines that resize images instead of cropping them, as in the published figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from reprefine.engine.errors import UserError

RESIZING = ('Resize', 'ResizeEdge', 'CenterCrop')


def without_crop(pipeline: Sequence[Mapping[str, Any]], side: int | None = None) -> list[dict[str, Any]]:
    """Return a test pipeline of mmpretrain with a resize to a square in place of resize and centre crop.

    Args:
        pipeline: Configs of the transforms.
        side: Side of the square in pixels; None: that of the crop, and a pipeline without crop is unchanged.

    Raises:
        UserError: If there is neither a resize nor a transform that packs the inputs.
    """
    types = [str(transform['type']).rpartition('.')[2] for transform in pipeline]
    crops = [transform for transform, kind in zip(pipeline, types, strict=True) if kind == 'CenterCrop']
    side = side or (crops and crops[-1]['crop_size'])
    if not side:
        return [dict(transform) for transform in pipeline]
    indices = [index for index, kind in enumerate(types) if kind in RESIZING or kind.startswith('Pack')]
    if not indices:
        raise UserError(f'the test pipeline {", ".join(types)} has no resize and no PackInputs: add PackInputs')
    kept = [dict(transform) for transform, kind in zip(pipeline, types, strict=True) if kind not in RESIZING]
    options = {key: pipeline[indices[0]][key] for key in ('backend', 'interpolation') if key in pipeline[indices[0]]}
    # A crop size is (height, width), a scale (width, height).
    size = (side, side) if isinstance(side, int) else tuple(side)[::-1]
    kept.insert(indices[0], dict(type='Resize', scale=size, keep_ratio=False, **options))
    return kept
