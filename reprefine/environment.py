"""Environment check: the tasks that can be run, the problems and their remedies.

The functions take dicts of versions and import errors, which ``reprefine.check_env`` collects.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from packaging.version import Version

Versions = Mapping[str, str]
Imports = Mapping[str, str | None]

# Modules each task needs, in the order in which a failure is reported.
_HOST = ('mmengine', 'pkg_resources', 'mmcv')
_OPS = (*_HOST, 'mmcv.ops')
TASKS = {
    'classification': (*_HOST, 'mmpretrain.models'),
    're-identification': (*_HOST, 'mmpretrain.models', 'mmpretrain.evaluation'),
    'detection': (*_OPS, 'mmdet.models'),
    'segmentation': (*_OPS, 'mmseg.models'),
    'face parsing': (*_OPS, 'mmseg.models'),
    'facial landmarks': (*_OPS, 'xtcocotools._mask', 'mmpose.models'),
    'depth': (*_OPS, 'mmseg.models'),
    'demo': (*_HOST, 'mmpretrain.models', 'sklearn', 'matplotlib', 'mlxtend', 'timm', 'diffusers.models.unets.unet_2d'),
    'diffusion teachers': ('diffusers.models.unets.unet_2d',),
    'timm backbones': ('timm',),
    'compiled mmcv ops': _OPS,
    'ONNX export': ('onnx', 'onnxruntime'),
}
MODULES = tuple(dict.fromkeys(module for modules in TASKS.values() for module in modules))

_OPENMMLAB_SET = 'pip install -r {requirements}'
_OPTIONAL_SET = 'pip install -r requirements/optional.txt'
# Commands that install a missing module. The fields in braces are those of the package family.
REMEDIES = {
    'mmengine': _OPENMMLAB_SET,
    'pkg_resources': 'pip install setuptools==80.10.2',
    'mmcv': '{install}',
    'mmcv.ops': 'pip uninstall -y {mmcv}, then {install}; by hand: MMCV_WITH_OPS=1 pip install '
    '--no-build-isolation --no-binary {mmcv} {mmcv}=={mmcv_version}',
    'mmpretrain.models': _OPENMMLAB_SET,
    'mmpretrain.evaluation': _OPENMMLAB_SET,
    'mmdet.models': _OPENMMLAB_SET,
    'mmseg.models': _OPENMMLAB_SET,
    'xtcocotools._mask': 'pip install --force-reinstall --no-deps --no-binary xtcocotools xtcocotools==1.14.3',
    'mmpose.models': 'pip install --no-deps -r requirements/mmpose.txt',
    'sklearn': 'pip install -r requirements/runtime.txt',
    'matplotlib': 'pip install -r requirements/runtime.txt',
    'diffusers.models.unets.unet_2d': _OPTIONAL_SET,
    'timm': _OPTIONAL_SET,
    'mlxtend': _OPTIONAL_SET,
    'onnx': 'pip install -r requirements/tests.txt',
    'onnxruntime': 'pip install -r requirements/tests.txt',
}

OFFICIAL = {'mmcv', 'mmcv-lite', 'mmcv-full', 'mmengine', 'mmengine-lite', 'mmpretrain', 'mmdet', 'mmsegmentation'}
FORKS = {'onedl-mmcv', 'onedl-mmengine', 'onedl-mmpretrain', 'onedl-mmdetection', 'onedl-mmsegmentation'}
FORKS_LACK = "they lack mmpose, whose official package can be used with them, and mmdet's Corrupt"
OFFICIAL_FIELDS = dict(
    requirements='requirements/mminstall.txt', install='make -B install', mmcv='mmcv', mmcv_version='2.1.0'
)
FORK_FIELDS = dict(
    requirements='requirements/mminstall-onedl.txt',
    install='make -B install-forks',
    mmcv='onedl-mmcv',
    mmcv_version='2.3.6',
)
SAME_FOLDER = ({'mmcv', 'mmcv-lite', 'mmcv-full'}, {'mmengine', 'mmengine-lite'})
# The official packages assert mmcv below a bound at import; the forks dropped this.
MMCV_BOUNDS = {'mmpretrain': '2.4.0', 'mmdet': '2.2.0', 'mmsegmentation': '2.2.0'}
MODULE_OF = {'mmpretrain': 'mmpretrain.models', 'mmdet': 'mmdet.models', 'mmsegmentation': 'mmseg.models'}


@dataclass(frozen=True)
class Problem:
    """A problem of the environment.

    Attributes:
        modules: Modules that cannot be used; tasks that need one of them cannot be run.
        problem: Its description, with the versions.
        remedy: Command that solves it.
    """

    modules: tuple[str, ...]
    problem: str
    remedy: str


@dataclass(frozen=True)
class TaskRow:
    """A row of the table.

    Attributes:
        task: The task.
        works: Whether it can be run.
        note: Details if it works, the reason if it does not.
        remedy: Command that solves the problem; empty if it works.
    """

    task: str
    works: bool
    note: str = ''
    remedy: str = ''


@dataclass(frozen=True)
class Devices:
    """GPUs, and the back ends and ops built for them.

    Attributes:
        gpus: Names of the visible GPUs.
        backends: Usable communication back ends of ``torch.distributed``.
        ops_cuda: CUDA version that mmcv's ops were compiled with, empty for CPU ops.
    """

    gpus: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    ops_cuda: str = ''


def _at_least(versions: Versions, name: str, bound: str) -> bool:
    """Return whether ``name`` is installed in version ``bound`` or newer (a pre-release of ``bound`` counts)."""
    return name in versions and Version(versions[name]).release >= Version(bound).release


def _mixed_families(versions: Versions, imports: Imports) -> Iterator[Problem]:
    official, forks = sorted(OFFICIAL & set(versions)), sorted(FORKS & set(versions))
    if official and forks:
        yield Problem(
            _HOST,
            f'both package families are installed and overwrite each other: {", ".join([*official, *forks])}',
            f'pip uninstall -y {" ".join([*official, *forks])}, then install one family: '
            f'{OFFICIAL_FIELDS["install"]}, or pip install -r {FORK_FIELDS["requirements"]}',
        )
    for twins in SAME_FOLDER:
        if len(installed := sorted(twins & set(versions))) > 1:
            problem = f'{" and ".join(installed)} overwrite each other'
            yield Problem(_HOST, problem, f'pip uninstall -y {" ".join(installed)}, then make -B install')


def _torch_too_new(versions: Versions, imports: Imports) -> Iterator[Problem]:
    if _at_least(versions, 'torch', '2.13') and imports.get('mmcv.ops'):
        problem = f'torch {versions["torch"]} is too new: mmcv does not compile against its headers'
        yield Problem(('mmcv', 'mmcv.ops'), problem, 'pip install torch==2.12.1 torchvision==0.27.1, then {install}')


def _no_pkg_resources(versions: Versions, imports: Imports) -> Iterator[Problem]:
    if _at_least(versions, 'setuptools', '82') and imports.get('pkg_resources'):
        problem = (
            f'setuptools {versions["setuptools"]} lacks pkg_resources, which mmengine finds inherited configs with'
        )
        yield Problem(('pkg_resources',), problem, REMEDIES['pkg_resources'])


def _mmcv_too_new(versions: Versions, imports: Imports) -> Iterator[Problem]:
    for package, bound in MMCV_BOUNDS.items():
        if package in versions and _at_least(versions, 'mmcv', bound):
            problem = f'{package} {versions[package]} refuses mmcv {versions["mmcv"]}, it wants mmcv < {bound}'
            yield Problem((MODULE_OF[package],), problem, 'pip uninstall -y mmcv, then make -B install (mmcv 2.1.0)')


def _demo_only(versions: Versions, imports: Imports) -> Iterator[Problem]:
    missing = tuple(module for module, error in imports.items() if error)
    if 'mmcv-lite' in versions and 'mmcv.ops' in missing:
        yield Problem(missing, 'only what make demo uses is installed (mmcv without compiled ops)', 'make install')


def _no_ops(versions: Versions, imports: Imports) -> Iterator[Problem]:
    if imports.get('mmcv.ops') and imports.get('mmcv', '') is None:
        problem = f'mmcv was installed without working compiled ops: {imports["mmcv.ops"]}'
        yield Problem(('mmcv.ops',), problem, REMEDIES['mmcv.ops'])


def _transformers_too_new(versions: Versions, imports: Imports) -> Iterator[Problem]:
    if _at_least(versions, 'transformers', '5') and imports.get('mmpretrain.models'):
        problem = f'mmpretrain cannot be imported with transformers {versions["transformers"]}'
        yield Problem(('mmpretrain.models',), problem, 'pip install "transformers<5", or uninstall it')


def _xtcocotools_of_numpy_1(versions: Versions, imports: Imports) -> Iterator[Problem]:
    if _at_least(versions, 'numpy', '2') and 'xtcocotools' in versions and imports.get('xtcocotools._mask'):
        problem = f'xtcocotools was compiled for numpy 1 and does not import with numpy {versions["numpy"]}'
        yield Problem(('xtcocotools._mask',), problem, REMEDIES['xtcocotools._mask'])


def _numpy_too_new(versions: Versions, imports: Imports) -> Iterator[Problem]:
    if _at_least(versions, 'numpy', '2.3') and {'mmpretrain', 'onedl-mmpretrain'} & set(versions):
        problem = f"numpy {versions['numpy']} is beyond 2.2: mmpretrain's retrieval calls functions removed since"
        yield Problem(('mmpretrain.evaluation',), problem, 'pip install numpy==2.2.6')


# The most severe first, as a row has the first problem that affects it.
RULES: tuple[Callable[[Versions, Imports], Iterator[Problem]], ...] = (
    _mixed_families,
    _torch_too_new,
    _no_pkg_resources,
    _mmcv_too_new,
    _demo_only,
    _no_ops,
    _transformers_too_new,
    _xtcocotools_of_numpy_1,
    _numpy_too_new,
)


def find_problems(versions: Versions, imports: Imports) -> list[Problem]:
    """Return all known problems of an environment.

    Args:
        versions: Version by canonical distribution name.
        imports: By module name: None if it imports, the error otherwise.
    """
    found = [problem for rule in RULES for problem in rule(versions, imports)]
    return [replace(problem, remedy=_for_family(problem.remedy, versions)) for problem in found]


def _for_family(remedy: str, versions: Versions) -> str:
    """Fill in the packages of the installed family, of the official one if there is none."""
    return remedy.format(**(FORK_FIELDS if FORKS & set(versions) else OFFICIAL_FIELDS))


def _task_row(task: str, problems: Iterable[Problem], imports: Imports) -> TaskRow:
    for problem in problems:
        if set(problem.modules) & set(TASKS[task]):
            return TaskRow(task, False, problem.problem, problem.remedy)
    for module in TASKS[task]:
        if error := imports.get(module, 'not tried'):
            return TaskRow(task, False, f'{module}: {error}', REMEDIES[module])
    return TaskRow(task, True)


def _gpu_row(devices: Devices, imports: Imports) -> TaskRow:
    if not devices.gpus:
        return TaskRow('GPU', False, 'none visible, the CPU is used', 'install a driver and a CUDA build of torch')
    names = ', '.join(devices.gpus)
    if imports.get('mmcv.ops', '') is None and not devices.ops_cuda:
        remedy = 'pip uninstall -y {mmcv}, then {install} with nvcc in PATH or with MMCV_WHEEL=FILE'
        return TaskRow('GPU', False, f'{names}, but the ops of mmcv are compiled for the CPU only', remedy)
    return TaskRow('GPU', True, names)


def _family_row(versions: Versions, imports: Imports) -> TaskRow:
    for problem in _mixed_families(versions, imports):
        return TaskRow('package family', False, problem.problem, problem.remedy)
    if forks := sorted(FORKS & set(versions)):
        return TaskRow('package family', True, f'the maintained forks ({", ".join(forks)}); {FORKS_LACK}')
    if official := sorted(OFFICIAL & set(versions)):
        return TaskRow('package family', True, f'the official packages ({", ".join(official)})')
    return TaskRow('package family', False, 'none is installed', 'make install')


def make_rows(versions: Versions, imports: Imports, devices: Devices) -> list[TaskRow]:
    """Return which tasks can be run.

    Args:
        versions: Version by canonical distribution name.
        imports: By module name: None if it imports, the error otherwise.
        devices: GPUs, and the back ends and ops built for them.

    Returns:
        A row per task in the order of ``TASKS``, then the package family, the GPU and distributed training.
    """
    problems = find_problems(versions, imports)
    rows = [_task_row(task, problems, imports) for task in TASKS]
    if devices.backends:
        distributed = TaskRow('distributed', True, ', '.join(devices.backends))
    else:
        distributed = TaskRow('distributed', False, 'no back end of torch.distributed', 'pip install torch==2.12.1')
    rows = [*rows, _family_row(versions, imports), _gpu_row(devices, imports), distributed]
    return [replace(row, remedy=_for_family(row.remedy, versions)) for row in rows]
