"""From a config file and command-line arguments to a Runner, shared by ``tools/train.py`` and ``tools/test.py``.

Modules that need torch are imported inside functions, so that errors are found before torch is imported.
"""

import argparse
import ast
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS, init_default_scope

from reprefine.engine.config_check.deprecated import rename_deprecated_keys
from reprefine.engine.config_check.keys import check_top_level_keys
from reprefine.engine.data_checks.data_root import set_data_root
from reprefine.engine.errors import UserError
from reprefine.engine.processes import set_up_processes
from reprefine.set_up import set_up

OWNER = '.config'  # file in a work dir with the path of the config that trains there
# A dict, or a list or tuple whose first item is one.
DICTS = re.compile(r'[\[(\s]*(\{|dict\().*[})\]]\s*', re.DOTALL)
DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load_config(
    path: str, cfg_options: dict[str, Any] | None = None, data_root: str | None = None, parsed: Config | None = None
) -> Config:
    """Read a config, merge the command-line options and check it.

    The process is then set up for a run (:func:`reprefine.set_up.set_up`).

    Args:
        path: Config file (``.py`` or ``.json``).
        cfg_options: Dotted keys and their new values, as given to ``--cfg-options``.
        data_root: Folder that replaces the config's own data root.
        parsed: Result of :func:`parse_config`, if it was called before.

    Raises:
        UserError: If the file is missing or does not parse, or an option or the config is invalid.
    """
    cfg = parsed or parse_config(path)
    from reprefine.engine.config_check.check import check_config
    from reprefine.engine.config_check.options import merge_options

    init_default_scope(cfg.get('default_scope') or 'mmengine')
    if any(option.startswith('custom_imports') for option in cfg_options or {}):
        raise UserError(
            '--cfg-options custom_imports: modules are imported before options are merged; set it in the file'
        )
    merge_options(cfg, cfg_options or {})
    if data_root is not None:
        set_data_root(cfg, data_root)
    check_config(cfg)
    set_up()
    return cfg


def parse_config(path: str) -> Config:
    """Run the config file, import its ``custom_imports`` and check its top-level keys.

    Args:
        path: Config file.

    Raises:
        UserError: If the file is missing or does not parse, or a top-level key is misspelt.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f'config {path} does not exist{_similar_file(file)}')
    if file.suffix not in ('.py', '.json'):
        raise UserError(f'config {path} is neither a .py nor a .json file')
    set_up(loaders=False)
    try:
        cfg = Config.fromfile(path)
    except (Exception, SystemExit) as error:  # a config is a program of the user, which may raise anything
        raise UserError(f'config {path} cannot be read: {type(error).__name__}: {error}') from error
    rename_deprecated_keys(cfg)
    check_top_level_keys(cfg)
    return cfg


def _similar_file(file: Path) -> str:
    """Return a suggestion of the file in the same folder with the most similar name."""
    names = [other.name for other in file.parent.glob(f'*{file.suffix}')]
    nearest = difflib.get_close_matches(file.name, names, n=1)
    return f'; did you mean {file.with_name(nearest[0])}?' if nearest else ''


def default_work_dir(config: str) -> str:
    """Return ``work_dirs/<path of the config below its configs folder, without suffix>``.

    Configs of equal name in different folders thus have different work dirs. A config outside of a ``configs`` folder
    gets its base name; see :func:`get_work_dir`.
    """
    parts = Path(config).absolute().with_suffix('').parts
    below = parts[-parts[::-1].index('configs') :] if 'configs' in parts[:-1] else parts[-1:]
    return str(Path('work_dirs', *below))


def get_work_dir(args: argparse.Namespace, cfg: Mapping[str, Any]) -> str:
    """Return the work dir from the argument, the options or the config, or else the default one.

    Args:
        args: The arguments of :func:`add_run_arguments`.
        cfg: The config, with or without the options.

    Raises:
        UserError: If the default one is that of a config of the same name in another folder.
    """
    given = args.work_dir or (args.cfg_options or {}).get('work_dir') or cfg.get('work_dir')
    if given:
        return given
    work_dir = default_work_dir(args.config)
    owner, config = Path(work_dir, OWNER), Path(args.config).resolve()
    former = owner.read_text().strip() if owner.is_file() and 'configs' not in config.parts else str(config)
    if former != str(config):
        raise UserError(f'work dir {work_dir} is that of {former}, not of {args.config}: give another --work-dir')
    return work_dir


def write_owner(work_dir: str, config: str) -> None:
    """Write the path of the config that trains in a work dir into it."""
    Path(work_dir, OWNER).write_text(f'{Path(config).resolve()}\n')


class OptionsAction(DictAction):
    """mmengine's ``DictAction`` of ``key=value`` pairs, with usage errors instead of tracebacks.

    It also reads dicts, as ``{'a': 1}`` or ``dict(a=1)``, also in lists, and keeps the spaces of strings.
    """

    @staticmethod
    def _parse_iterable(val: str) -> Any:
        if DICTS.fullmatch(val):
            return _literal(ast.parse(val.strip(), mode='eval').body)
        if not set(val) & set('[](),'):
            return DictAction._parse_int_float_bool(val.strip('\'"'))
        return DictAction._parse_iterable(val)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Parse the pairs into a dict."""
        for pair in values:
            if '=' not in pair:
                parser.error(f'{option_string}: expected key=value, got {pair!r}')
        try:
            super().__call__(parser, namespace, values, option_string)
        # Raised by mmengine for unbalanced brackets and calls in lists.
        except (RecursionError, AssertionError, ValueError, SyntaxError) as error:
            parser.error(
                f'{option_string}: {" ".join(values)} cannot be read ({type(error).__name__}): put it in a config'
            )


def _literal(node: ast.expr) -> Any:
    """Return the value of a Python literal, in which ``dict(key=value)`` is allowed.

    Raises:
        ValueError: It is another expression.
    """
    if isinstance(node, ast.Call):
        if ast.unparse(node.func) != 'dict' or node.args or not all(word.arg for word in node.keywords):
            raise ValueError('only dict(key=value, ...) may be called')
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, ast.Dict) and None not in node.keys:
        keys = map(ast.literal_eval, node.keys)
        return dict(zip(keys, map(_literal, node.values), strict=True))
    if isinstance(node, ast.List | ast.Tuple):
        return [*map(_literal, node.elts)] if isinstance(node, ast.List) else (*map(_literal, node.elts),)
    return ast.literal_eval(node)


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that training and testing have in common."""
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: mirrors the path of the config)')
    parser.add_argument('--amp', action='store_true', help='compute in mixed precision')
    parser.add_argument('--no-pin-memory', action='store_true', help='switch pin_memory of the data loaders off')
    add_config_arguments(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two arguments that change a config."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='override settings of the config'
    )
    parser.add_argument('--data-root', metavar='DIR', help="folder to use instead of the config's own data root")


def config_from_args(args: argparse.Namespace, parsed: Config | None = None) -> Config:
    """Return the checked config with the arguments of :func:`add_run_arguments` applied.

    Args:
        args: The arguments.
        parsed: Result of :func:`parse_config`, if it was called before.
    """
    cfg = load_config(args.config, args.cfg_options, args.data_root, parsed)
    cfg.work_dir = get_work_dir(args, cfg)
    set_loader_defaults(cfg, args.no_pin_memory)
    set_up_processes(cfg, args.launcher, args.local_rank)
    return cfg


def set_loader_defaults(cfg: Config, no_pin_memory: bool) -> None:
    """Set what the tools of the OpenMMLab libraries set, and ``persistent_workers`` by the number of workers.

    Args:
        cfg: Complete config, changed in place.
        no_pin_memory: Whether to switch ``pin_memory`` off.
    """
    import torch

    for name in DATALOADERS:
        loader = cfg.get(name)
        if not loader:
            continue
        if cfg.get('default_scope') == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))
        loader.setdefault('pin_memory', torch.cuda.is_available())
        if no_pin_memory:
            loader.pin_memory = False
        if loader.get('num_workers'):
            loader.setdefault('persistent_workers', True)
        else:
            loader.persistent_workers = False


def build_runner(cfg: Config) -> Any:
    """Build the config's own runner type, or :class:`reprefine.engine.runner.Runner`."""
    from reprefine.engine.runner import Runner

    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
