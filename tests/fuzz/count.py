"""Counts the bad inputs by kind and by expected result: ``python -m tests.fuzz.count``."""

from collections import Counter

from tests.fuzz import checkpoints, command_line, images, values

KINDS = {
    'config values': [*values.LOADING, *values.OPTIMISATION, *values.MODEL, *values.RUN],
    'values of a refinement': values.METHOD,
    'values changed before a resumption': values.RESUMED,
    'checkpoints': [
        *checkpoints.CUTS,
        *checkpoints.FLIPS,
        *checkpoints.OTHERS,
        *checkpoints.STARTED,
        *checkpoints.RESUMED,
    ],
    'images': images.IMAGE_CASES,
    'annotation files': images.ANNOTATION_CASES,
    'boxes, masks, classes and amounts of data': images.CONTENT_CASES,
    'command lines': [*command_line.CONFIGS, *command_line.TRAINING, *command_line.TESTING],
}


def main() -> None:
    """Print a line for each kind, and the sums."""
    total = Counter()
    for kind, cases in KINDS.items():
        endings = Counter('right result' if case.ending is None else 'error line' for case in cases)
        total += endings
        print(f'{kind}: {len(cases)} ({endings["error line"]} error lines, {endings["right result"]} right results)')
    print(f'all: {total.total()} ({total["error line"]} error lines, {total["right result"]} right results)')


if __name__ == '__main__':
    main()
