"""Every data loader of every config has batches on the toy data of its benchmark as it stands, with no other option."""

import copy
import json
from collections.abc import Iterator

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope

from reprefine.engine.cli.launch import DATALOADERS, set_loader_defaults
from reprefine.engine.data_checks.data_root import check_data_folders, set_data_root
from reprefine.engine.data_checks.loader_checks import check_classes
from reprefine.engine.runner import Runner
from tests.configs.brief import data_roots
from tests.configs.walk import CONFIGS

FOLDERS = sorted({path.parent.name for path in CONFIGS})
# Read what an earlier stage writes.
PAIRS = ('reprefine.FeaturePairDataset', 'reprefine.LoadFeatureMap')
SEEN: set[str] = set()


def distinct_loaders(folder: str) -> Iterator[tuple[Config, str]]:
    """Yield config and name of each data loader in the folders of this name that no earlier config has."""
    for path in (path for path in CONFIGS if path.parent.name == folder):
        cfg = Config.fromfile(path)
        for name in DATALOADERS:
            key = json.dumps(cfg.get(name), sort_keys=True, default=str)
            if cfg.get(name) and not any(kind in key for kind in PAIRS) and key not in SEEN:
                SEEN.add(key)
                yield cfg, name


def first_batch(cfg: Config, name: str) -> list[int]:
    """Return the indices of the first batch, after one of its samples went through the pipeline."""
    init_default_scope(cfg.default_scope)
    loader = Runner.build_dataloader({**cfg[name], 'num_workers': 0, 'persistent_workers': False}, seed=0)
    if name == 'train_dataloader':
        check_classes(cfg.model, loader.dataset)
    indices = next(iter(loader.batch_sampler))
    assert loader.dataset[indices[0]]
    if name == 'train_dataloader':
        assert len(indices) == min(loader.batch_size or loader.batch_sampler.batch_size, len(loader.dataset))
    return indices


@pytest.mark.parametrize('folder', FOLDERS)
def test_as_shipped(folder, toy_folder):
    for cfg, name in distinct_loaders(folder):
        cfg = copy.deepcopy(cfg)
        if roots := data_roots(cfg):
            set_data_root(cfg, str(toy_folder(roots)))
        check_data_folders(cfg, [name])
        set_loader_defaults(cfg, no_pin_memory=True)
        assert first_batch(cfg, name), (cfg.filename, name)
