"""torchrun for dist_train.sh and dist_test.sh that prints the error of a distributed run once, as the last line."""

import logging
import os
import sys
from collections.abc import Sequence

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

# Loggers that report every failed or stopped process in dozens of lines.
VERBOSE_LOGGERS = ('agent.server.api', 'multiprocessing.api')


def error_text(error: ChildFailedError, script: str) -> str:
    """Return the error message of the process that failed first, or its signal or exit code without a message.

    Empty if the process handled a signal itself.

    Args:
        error: Exception of torchrun.
        script: Name of the tool.
    """
    rank, failure = error.get_first_failure()
    message = failure.error_file_data['message']
    if isinstance(message, dict):
        return message['message']
    if failure.exitcode < 0:
        return f'{script}: error: process {rank} was killed by {failure.signal_name()}, see its output above'
    if failure.exitcode > 128:
        return ''
    return f'{script}: error: process {rank} ended with exit code {failure.exitcode}, see its output above'


def main(argv: Sequence[str]) -> int:
    """Run torchrun and return its exit code: 1 if a process did not end with 0, or when it was stopped by a signal."""
    os.environ['REPREFINE_LAUNCHED'] = '1'
    for name in VERBOSE_LOGGERS:
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
