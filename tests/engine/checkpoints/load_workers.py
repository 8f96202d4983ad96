"""What the two gloo processes of the loading tests run; each rank has files of its own, and errors go to files."""

import datetime
import os
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import BaseModel, BaseModule
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner

# Case: what rank 1 finds under the name that both ranks read.
CASES = ('missing', 'damaged', 'malicious', 'other model', 'weights only', 'pretrained', 'pretrained part')


class Part(BaseModule):
    """A part that may start from a checkpoint."""

    def __init__(self, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.layer = nn.Linear(2, 2)


class Net(BaseModel):
    """A model of one part."""

    def __init__(self, init_cfg: dict | None = None):
        super().__init__()
        self.part = Part(init_cfg)

    def forward(self, *_, **__):
        """Do nothing."""


class RunsCode:
    """Pickles to a call that creates a folder."""

    def __init__(self, folder: str):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def work(rank: int, folder: str) -> None:
    """Run every case in one pair of processes, because starting them is what takes the time."""
    torch.set_num_threads(1)
    os.environ |= {'GLOO_SOCKET_IFNAME': 'lo', 'LOCAL_RANK': str(rank)}
    dist.init_process_group(
        'gloo', f'file://{folder}/rendezvous', datetime.timedelta(seconds=20), world_size=2, rank=rank
    )
    results = {case: outcome(case, rank, Path(folder)) for case in CASES}
    results['weights'] = initial_weights(rank, Path(folder))
    torch.save(results, Path(folder) / f'rank{rank}.pth')
    dist.destroy_process_group()


def outcome(case: str, rank: int, folder: Path) -> str:
    """Return the message of the rank's UserError, or that there is none."""
    own = folder / f'{case}-{rank}'
    own.mkdir()
    os.chdir(own)  # the ranks read files of one name in folders of their own
    write(case if rank else 'valid', own / 'a.pth', folder)
    start = dict(type='Pretrained', checkpoint='a.pth') if case.startswith('pretrained') else None
    if case == 'pretrained part':
        start['prefix'] = 'part.'
    runner = Runner(Net(start), str(folder / 'run'), launcher='pytorch', experiment_name=case, cfg=config())
    try:
        if start:
            runner._init_model_weights()
        elif case == 'weights only':
            runner.resume('a.pth')
        else:
            runner.load_checkpoint('a.pth')
    except UserError as error:
        return str(error)
    return 'no error'


def initial_weights(rank: int, folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a part that starts from a file of other values on each rank."""
    own = folder / f'values-{rank}'
    own.mkdir()
    os.chdir(own)
    torch.save({name: torch.full_like(value, rank + 1) for name, value in Part().state_dict().items()}, own / 'a.pth')
    model = Net(dict(type='Pretrained', checkpoint='a.pth'))
    runner = Runner(model, str(folder / 'run'), launcher='pytorch', experiment_name='values', cfg=config())
    runner._init_model_weights()
    return model.state_dict()


def config() -> Config:
    """Return what a Runner of two processes needs."""
    return Config(dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None)))


def write(case: str, file: Path, folder: Path) -> None:
    """Write the file that a rank finds."""
    state = {f'part.{name}': value for name, value in Part().state_dict().items()}
    content = dict(state_dict=state, meta=dict(epoch=1, iter=1), message_hub={}, optimizer={})
    if case == 'malicious':
        content['payload'] = RunsCode(str(folder / 'created'))
    elif case == 'other model':
        content['state_dict'] = {'part.layer.weight': torch.zeros(3, 3)}
    elif case == 'weights only':
        del content['optimizer']
    if case in ('missing', 'pretrained', 'pretrained part'):
        return
    torch.save(content, file)
    if case == 'damaged':
        file.write_bytes(file.read_bytes()[:100])
