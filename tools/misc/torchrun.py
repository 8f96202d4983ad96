"""torchrun for dist_train.sh and dist_test.sh: the error of a run of several processes is told once, and last."""

import logging
import os
import sys
from collections.abc import Sequence

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

# They report every failed or stopped process, in dozens of lines.
TALKATIVE = ('agent.server.api', 'multiprocessing.api')


def error_text(error: ChildFailedError, script: str) -> str:
    """Return what the process that failed first has to say; of one that could not speak, how it ended.

    Empty if it was stopped by a signal that it answered by itself.

    Args:
        error: What torchrun raises.
        script: Name of the tool.
    """
    rank, failure = error.get_first_failure()
    told = failure.error_file_data['message']
    if isinstance(told, dict):
        return told['message']
    if failure.exitcode < 0:
        return f'{script}: error: process {rank} was ended by {failure.signal_name()}, see its output above'
    if failure.exitcode > 128:
        return ''
    return f'{script}: error: process {rank} ended with exit code {failure.exitcode}, see its output above'


def main(argv: Sequence[str]) -> int:
    """Run torchrun and return its exit code: 1 if a process did not end with 0, or when it was stopped by a signal."""
    os.environ['REPREFINE_LAUNCHED'] = '1'
    for name in TALKATIVE:
        logging.getLogger(f'torch.distributed.elastic.{name}').setLevel(logging.CRITICAL)
    args = run.parse_args(argv)
    try:
        run.run(args)
    except SignalException:
        return 1
    except ChildFailedError as error:
        if text := error_text(error, os.path.basename(args.training_script)):
            print(text, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
