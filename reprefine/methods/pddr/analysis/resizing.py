"""Test pipelines whose images are resized as a whole, not cropped, as the published figures show them."""

from collections.abc import Mapping, Sequence
from typing import Any

from reprefine.engine.errors import UserError

RESIZING = ('Resize', 'ResizeEdge', 'CenterCrop')


def uncropped(pipeline: Sequence[Mapping[str, Any]], side: int | None = None) -> list[dict[str, Any]]:
    """Return a test pipeline of mmpretrain that resizes images to a square where it resized and cropped them.

    Args:
        pipeline: Configs of the transforms.
        side: Of the square, in pixels; default that of the crop, so that a pipeline without crop stays.

    Raises:
        UserError: If ``side`` is given and the pipeline does not end in the packing of images.
    """
    kinds = [str(transform['type']).rpartition('.')[2] for transform in pipeline]
    crops = [transform for transform, kind in zip(pipeline, kinds, strict=True) if kind == 'CenterCrop']
    side = side or (crops and crops[-1]['crop_size'])
    if not side:
        return [dict(transform) for transform in pipeline]
    places = [index for index, kind in enumerate(kinds) if kind in RESIZING or kind.startswith('Pack')]
    if not places:
        raise UserError(f'the images of a pipeline of {", ".join(kinds)} cannot be resized: it packs none')
    kept = [dict(transform) for transform, kind in zip(pipeline, kinds, strict=True) if kind not in RESIZING]
    how = {key: pipeline[places[0]][key] for key in ('backend', 'interpolation') if key in pipeline[places[0]]}
    size = (side, side) if isinstance(side, int) else tuple(side)[::-1]  # a crop has height and width
    kept.insert(places[0], dict(type='Resize', scale=size, keep_ratio=False, **how))
    return kept
