"""Importing a host library without the others that it could also do with."""

import importlib
import sys
from importlib.util import find_spec

# It adds a layer to mmdet's registry, and imports all of mmdet's models for that.
LAYER_OF_MMDET = 'mmpretrain.models.utils.res_layer_extra_norm'


def import_mmpretrain_without_mmdet() -> None:
    """Import mmpretrain's models, and not mmdet's, which no classification needs and take longer.

    The layer that mmpretrain adds to mmdet's registry is registered on the first look-up there. Where either library is
    imported already, or one is not installed, nothing is done.
    """
    if {'mmpretrain.models', 'mmdet'} & sys.modules.keys() or not (find_spec('mmpretrain') and find_spec('mmdet')):
        return
    sys.modules['mmdet'] = None  # what makes Python say that there is no such module
    try:
        importlib.import_module('mmpretrain.models')
    finally:
        del sys.modules['mmdet']
    if sys.modules.pop(LAYER_OF_MMDET, None):
        importlib.import_module('mmdet.registry').MODELS._locations.append(LAYER_OF_MMDET)
