"""Import of mmpretrain without mmdet, its optional dependency."""

import importlib
import sys
from importlib.util import find_spec

# Module that adds a layer to mmdet's registry, and imports all of mmdet's models for it.
LAYER_OF_MMDET = 'mmpretrain.models.utils.res_layer_extra_norm'


def import_mmpretrain_without_mmdet() -> None:
    """Import mmpretrain's models without mmdet's, which classification does not need and which import slowly.

    The layer that mmpretrain adds to mmdet's registry is registered at the first look-up there. If one of the libraries
    is already imported or not installed, nothing is done.
    """
    if {'mmpretrain.models', 'mmdet'} & sys.modules.keys() or not (find_spec('mmpretrain') and find_spec('mmdet')):
        return
    sys.modules['mmdet'] = None  # makes its import raise ModuleNotFoundError
    try:
        importlib.import_module('mmpretrain.models')
    finally:
        del sys.modules['mmdet']
    if sys.modules.pop(LAYER_OF_MMDET, None):
        importlib.import_module('mmdet.registry').MODELS._locations.append(LAYER_OF_MMDET)
