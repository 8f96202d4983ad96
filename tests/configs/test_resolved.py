"""Every config with all its bases: it starts from what is written, and scales its rate from the right batch."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from reprefine.engine.cli.launch import default_work_dir
from tests.configs.brief import LOADERS, ROOT
from tests.configs.walk import CONFIGS
from tests.helpers.repository import files

TRAINED = {default_work_dir(str(path)): path for path in CONFIGS}
# What hooks write beside the last checkpoint.
BESIDE = {
    'reprefine.ReparameterizeHook': '{}_deploy.pth',
    'reprefine.SaveTeacherHook': 'teacher',
    'reprefine.ScoreStatsHook': 'score_stats',
}
# What a tool adds to the folder of a run.
CONVERTED = {'work_dirs/dvt/demo/mae_vit-p4_ade20k-64px/vit.pth': 'tools/model_converters/mae_to_timm.py'}
TOOLS = [path for suffix in ('py', 'sh') for path in (ROOT / 'tools').rglob(f'*.{suffix}')]
TEXTS = files('*.md')
PATH = re.compile(r"work_dirs/(?:\{[^}\s]*\}|[^\s`'\",(){}])+")
OUTPUT = re.compile(r"(?:--out |--work-dir |RUNS=|ROOT / '|Path\('|_arguments\(parser, ')(work_dirs/[^\s';]+)")

# Number of GPUs of the published recipe where, as in the names of the host library, the name leaves it out; else one.
GPUS = {
    'configs/.*/detection': 8,  # mmdet: 8 GPUs of 2 images are the default
    'deploy_in1k': 8,  # mmpretrain: a deployed form is not trained
    'deploy_wflw': 2,
}


@cache
def read(path: Path) -> Config:
    return Config.fromfile(path, import_custom_modules=False)


def strings(node: Any) -> Iterator[str]:
    """Yield every string below ``node``."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for item in node.values() if isinstance(node, Mapping) else node:
            yield from strings(item)


def products(cfg: Config) -> set[str]:
    """Return the names that the training of ``cfg`` leaves in its work dir."""
    hook = cfg.default_hooks.checkpoint
    unit, length = ('epoch', 'max_epochs') if hook.get('by_epoch', True) else ('iter', 'max_iters')
    end = cfg.train_cfg.get(length, 1)  # a loop of its own makes one pass
    steps = [step for step in range(1, end + 1) if step % hook.interval == 0]
    if hook.get('save_last', True) and end not in steps:
        steps.append(end)
    names = [f'{unit}_{step}' for step in steps]
    hooks = {custom.type for custom in cfg.get('custom_hooks', [])}
    kept = names[-hook.max_keep_ckpts :] if hook.get('max_keep_ckpts', -1) > 0 else names
    return {f'{name}.pth' for name in kept} | {BESIDE[kind].format(names[-1]) for kind in hooks & BESIDE.keys()}


def assert_written(path: str, text: str = '') -> None:
    """Require that the training named by ``path`` writes it, with its length changed if ``text`` says so."""
    folder = next((str(parent) for parent in (Path(path), *Path(path).parents) if str(parent) in TRAINED), None)
    assert folder, f'no config trains into {path}'
    name = path.removeprefix(folder).strip('/').partition('/')[0]
    unit, _, step = name.removesuffix('.pth').partition('_')
    shortened = f'train_cfg.max_{unit}s={step}' in text and f'checkpoint.interval={step}' in text
    if name and not shortened and path not in CONVERTED and not name.startswith('nonfinite_iter_'):
        assert name in products(read(TRAINED[folder])), path


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_starts_from_what_is_written(path):
    for string in strings(read(path)._cfg_dict):
        if 'work_dirs' in string:
            assert_written(string)


def test_many_configs_start_from_another():
    starts = {string for path in CONFIGS for string in strings(read(path)._cfg_dict) if 'work_dirs' in string}
    assert len(starts) > 40
    assert {Path(start).name.partition('_')[0] for start in starts} == {'epoch', 'iter', 'teacher', 'vit.pth'}


@pytest.mark.parametrize('text', [*TEXTS, *TOOLS], ids=lambda path: str(path.relative_to(ROOT)))
def test_text_names_what_is_written(text):
    content = text.read_text()
    folders = {folder.rstrip('/') for file in (text, *TOOLS) for folder in OUTPUT.findall(file.read_text())}
    for path in (found.rstrip('.:;') for found in PATH.findall(content)):
        own = f'{path.split("/")[1]}.py' in content.split(path)[0]  # a config that the text tells to write
        if not own and not re.search('[…<$]', path) and not any(f'{path}/'.startswith(f'{f}/') for f in folders):
            assert_written(path, content)


def test_converted_files_are_written_by_the_commands_of_a_text():
    texts = ''.join(text.read_text() for text in TEXTS)
    for path, tool in CONVERTED.items():
        assert re.search(rf'{tool} \S+ (\\\n +)?{path}\n', texts)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_rate_is_scaled_from_the_batch_that_it_was_written_for(path):
    cfg = read(path)
    base = cfg.get('auto_scale_lr', {}).get('base_batch_size')
    if base is not None:
        named = re.search(r'(\d+)xb(\d+)', path.stem)
        gpus = int(named[1]) if named else next((n for pattern, n in GPUS.items() if re.search(pattern, str(path))), 1)
        assert base == gpus * cfg.train_dataloader.batch_size
        assert not named or int(named[2]) == cfg.train_dataloader.batch_size


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_loader_without_workers_says_that_none_persist(path):
    """The tool of mmpretrain lets them persist otherwise, which fails."""
    cfg = read(path)
    loaders = [cfg.get(name) or {} for name in LOADERS] if cfg.get('default_scope') == 'mmpretrain' else []
    assert not [loader for loader in loaders if loader.get('num_workers') == 0 and loader.get('persistent_workers', 1)]
