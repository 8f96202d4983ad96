"""Bad command lines of tools/train.py and tools/test.py, and the expected error line; None for a successful run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


def _nothing(folder: Path) -> None:
    return None


class Line(NamedTuple):
    """A command line.

    Attributes:
        name: What is bad.
        ending: Pattern of the error line, or None if the tool must end well.
        words: The arguments behind the defaults of the test; ``{folder}`` is the folder of the case.
        make: Makes what the line names.
    """

    name: str
    ending: str | None
    words: tuple[str, ...]
    make: Callable[[Path], Any] = _nothing


def _config(text: str | bytes, name: str = 'bad.py') -> Callable[[Path], Any]:
    content = text if isinstance(text, bytes) else text.encode()
    return lambda folder: (folder / name).write_bytes(content)


def _bad_config(kind: str, ending: str, text: str | bytes, name: str = 'bad.py') -> Line:
    return Line(f'config {kind}', ending, (f'{{folder}}/{name}',), _config(text, name))


CANNOT = 'cannot be read'
# These give a config of their own.
CONFIGS = [
    Line('no config', r'arguments are required: config', ()),
    Line('config missing', 'none.py does not exist', ('none.py',)),
    Line('config a folder', 'does not exist', ('{folder}',)),
    _bad_config('of YAML', 'neither a .py nor a .json', 'a: 3', 'bad.yaml'),
    _bad_config('without suffix', 'neither a .py nor a .json', 'a = 3', 'bad'),
    _bad_config('with a syntax error', CANNOT, 'a = ('),
    _bad_config('that raises', f'{CANNOT}: ZeroDivisionError', 'a = 1 / 0'),
    _bad_config('that exits', CANNOT, 'raise SystemExit(3)'),
    _bad_config('with an unknown name', f'{CANNOT}: NameError', 'a = b'),
    _bad_config('of no text', CANNOT, b'\xff\xfe\x00\x01'),
    _bad_config('with a null byte', CANNOT, b'a = 3\x00'),
    _bad_config('empty', 'model: training needs it', ''),
    _bad_config('with an unknown base', CANNOT, "_base_ = 'none.py'"),
    _bad_config('with a base of no package', CANNOT, "_base_ = 'nopackage::a/b.py'"),
    _bad_config('that is its own base', CANNOT, "_base_ = 'bad.py'"),
    _bad_config('with an unknown import', CANNOT, "custom_imports = dict(imports=['no_module'])"),
    _bad_config('with imports of a wrong type', CANNOT, 'custom_imports = dict(imports=3)'),
    _bad_config('of JSON, cut', CANNOT, '{"a": ', 'bad.json'),
    _bad_config('of JSON, a list', CANNOT, '[1]', 'bad.json'),
    _bad_config('of JSON, empty', CANNOT, '', 'bad.json'),
    _bad_config('of JSON, an empty dict', 'model: training needs it', '{}', 'bad.json'),
    _bad_config('with a misspelt key', "did you mean 'train_dataloader'", 'train_dataloder = dict()'),
    _bad_config('with a model of words', 'model: must be a dict', "model = 'ViT'"),
]


def _file(name: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text('text')


# These follow the digits config.
TRAINING = [
    Line('an unknown flag', 'unrecognized arguments: --fast', ('--fast',)),
    Line('an unknown launcher', "invalid choice: 'x'", ('--launcher', 'x')),
    Line('a launcher that is not available', 'need torchrun', ('--launcher', 'pytorch')),
    Line('a local rank in words', 'invalid int value', ('--local_rank', 'x')),
    Line('an option without a value', 'expected key=value', ('--cfg-options', 'model')),
    Line('an option of no key', "'x' is neither in the config", ('--cfg-options', 'x.y=3')),
    Line('an option misspelt', 'did you mean', ('--cfg-options', 'train_cfg.max_epoch=3')),
    Line(
        'an option beyond a list',
        '7 is no index of the list',
        ('--cfg-options', 'param_scheduler.7.end=3'),
    ),
    Line('an option through a number', 'has no entries', ('--cfg-options', 'train_dataloader.batch_size.x=3')),
    Line('a work dir that is a file', 'exists|directory', ('--work-dir', '{folder}/a'), _file('a')),
    Line('a work dir below a file', 'directory', ('--work-dir', '{folder}/a/b'), _file('a')),
    Line('a work dir that cannot be made', 'No such file|ermission|directory', ('--work-dir', '/proc/none/a')),
    Line('a work dir with a null byte', 'null byte', ('--work-dir', 'a\0b')),
    Line('a work dir with a long name', 'too long', ('--work-dir', '{folder}/' + 'a' * 300)),
    Line('a work dir of another run', 'already holds checkpoints', ('--work-dir', '{folder}'), _file('epoch_1.pth')),
    Line('a missing data root', 'no dataset of this config has a data_root', ('--data-root', '{folder}/none')),
    Line('resumed from nothing', 'none.pth does not exist', ('--resume', '{folder}/none.pth')),
    Line('resumed from a folder', 'does not exist', ('--resume', '{folder}')),
    Line('resumed from text', 'cannot be read|IndexError', ('--resume', '{folder}/a.pth'), _file('a.pth')),
    Line('resumed before the first checkpoint', None, ('--resume',)),
    Line('a batch size to scale from is missing', None, ('--auto-scale-lr',)),
    Line('no validation', None, ('--no-validate',)),
]
# These follow the digits config and a valid checkpoint.
TESTING = [
    Line('metrics into text', 'metrics go into a .json or .pkl file', ('--out', '{folder}/a.txt')),
    Line('an item without a file', 'give --out FILE', ('--out-item', 'pred')),
    Line('an unknown item', 'invalid choice', ('--out', 'a.pkl', '--out-item', 'x')),
    Line('predictions into json', 'predictions go into a .pkl file', ('--dump', '{folder}/a.json')),
    Line('predictions twice', 'would both contain predictions', ('--out', 'a.pkl', '--dump', 'b.pkl')),
    Line('metrics below a file', 'directory|exists', ('--out', '{folder}/a/b.json'), _file('a')),
    Line('metrics where no file can be', 'No such file|ermission|directory', ('--out', '/proc/none/a.json')),
    Line('predictions below a file', 'directory|exists', ('--dump', '{folder}/a/b.pkl'), _file('a')),
    Line('pictures below a file', 'directory|exists', ('--show-dir', '{folder}/a/b'), _file('a')),
    Line('an interval in words', 'invalid int value', ('--interval', 'x')),
    Line('an interval of zero', '--interval', ('--show-dir', '{folder}/a', '--interval', '0')),
    Line('a waiting time in words', 'invalid float value', ('--wait-time', 'x')),
    Line('two checkpoints', 'expected key=value', ('b.pth',)),
    Line('a metric that is not there', 'no metric is registered', ('--cfg-options', 'test_evaluator.type=None_')),
    Line('no test data', 'test_dataloader: testing needs it', ('--cfg-options', 'test_dataloader=None')),
    Line('no test loop', 'test_cfg: testing needs it', ('--cfg-options', 'test_cfg=None')),
    Line('no metric', 'test_evaluator: testing needs it', ('--cfg-options', 'test_evaluator=None')),
    Line('an empty test set', 'has no samples', ('--cfg-options', 'test_dataloader.dataset.indices=0')),
    Line('no class of the model', r'2 size mismatch \(head', ('--cfg-options', 'model.head.num_classes=12')),
    Line('another width', 'belongs to another model', ('--cfg-options', 'model.backbone.arch.embed_dims=32')),
    Line('pictures of several views', 'cannot draw an image of', ('--tta', '--show-dir', '{folder}/a')),
]
