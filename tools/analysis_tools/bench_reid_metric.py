"""Measure time and memory of the ReID metric and of the usual loop over queries, on random features."""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.tasks.reid.functional import Tags, distance_blocks, match_ranks, retrieval_metrics

EXAMPLE = """example:
  python tools/analysis_tools/bench_reid_metric.py --queries 2000 --gallery 20000
  python tools/analysis_tools/bench_reid_metric.py --queries 11659 --gallery 82161 --identities 3060 --no-loop \\
      --max-memory 4      # the size of MSMT17"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--queries', type=int, default=2000, metavar='Q')
    parser.add_argument('--gallery', type=int, default=20000, metavar='G')
    parser.add_argument('--identities', type=int, default=1000, metavar='N')
    parser.add_argument('--dim', type=int, default=384, metavar='D', help='length of a feature')
    parser.add_argument('--threads', type=int, default=1, metavar='T')
    parser.add_argument(
        '--no-loop', action='store_true', help='skip the loop, which needs the memory of all Q x G distances'
    )
    parser.add_argument(
        '--max-memory', type=float, metavar='GIB', help='fail if the peak memory of the process is above it'
    )


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        measure(args)
    finally:
        torch.set_num_threads(threads)


def measure(args: argparse.Namespace) -> None:
    """Measure metric and loop and print the results.

    Raises:
        UserError: If the process has used more than ``--max-memory``.
    """
    queries, query_tags = make_features(args.queries, args.identities, args.dim, seed=1)
    gallery, gallery_tags = make_features(args.gallery, args.identities, args.dim, seed=2)
    seconds, metrics = timed(lambda: evaluate(queries, gallery, query_tags, gallery_tags))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f'metric   {seconds:7.2f} s, peak memory of the process {memory:.2f} GiB: {format_metrics(metrics)}')
    if not args.no_loop:
        compare_with_loop(queries, gallery, query_tags, gallery_tags, metrics)
    if args.max_memory and memory > args.max_memory:
        raise UserError(f'peak memory {memory:.2f} GiB is above --max-memory {args.max_memory:g}')


def make_features(images: int, identities: int, dim: int, seed: int) -> tuple[torch.Tensor, Tags]:
    """Draw noisy copies of one feature for each identity, with random cameras out of six."""
    centres = torch.randn(identities, dim, generator=torch.Generator().manual_seed(0))
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    tags = Tags(rng.integers(identities, size=images), rng.integers(6, size=images))
    noise = torch.randn(images, dim, generator=generator).mul_(2)
    return torch.nn.functional.normalize(noise.add_(centres[tags.pid])), tags


def timed(function: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def evaluate(queries: torch.Tensor, gallery: torch.Tensor, query_tags: Tags, gallery_tags: Tags) -> dict[str, float]:
    """Compute the metrics as ReIDMetric does."""
    return retrieval_metrics(match_ranks(distance_blocks(queries, gallery), query_tags, gallery_tags))


def compare_with_loop(
    queries: torch.Tensor, gallery: torch.Tensor, query_tags: Tags, gallery_tags: Tags, metrics: dict[str, float]
) -> None:
    """Time the loop, and both again without the distances."""
    seconds, distance = timed(lambda: np.concatenate(list(distance_blocks(queries, gallery))))
    loop, reference = timed(lambda: evaluate_in_loop(distance, query_tags, gallery_tags))
    ranking, _ = timed(lambda: retrieval_metrics(match_ranks([distance], query_tags, gallery_tags)))
    print(f'loop     {seconds + loop:7.2f} s, of which distances {seconds:.2f} s: {format_metrics(reference)}')
    print(f'without distances: loop {loop:.2f} s, metric {ranking:.2f} s, ratio {loop / ranking:.1f}')
    difference = max(abs(metrics[name] - reference[name]) for name in reference)
    print(f'largest difference {difference:.1e} percentage points')
    if not difference <= 1e-3:  # also if it is NaN
        raise UserError('the metric and the loop disagree')


def evaluate_in_loop(distance: np.ndarray, queries: Tags, gallery: Tags) -> dict[str, float]:
    """Compute the metrics in the usual way: sort all rows, then loop over the queries."""
    order = np.argsort(distance, axis=1)
    precisions, penalties, first = [], [], []
    for ranking, pid, camera in zip(order, queries.pid, queries.camera, strict=True):
        kept = ranking[(gallery.pid[ranking] != pid) | (gallery.camera[ranking] != camera)]
        matches = gallery.pid[kept] == pid
        if not matches.any():
            continue
        ranks = np.flatnonzero(matches)
        precisions.append((np.cumsum(matches) / np.arange(1, len(matches) + 1))[matches].mean())
        penalties.append(len(ranks) / (ranks[-1] + 1))
        first.append(ranks[0])
    values = dict(mAP=precisions, mINP=penalties) | {f'CMC-{k}': np.array(first) < k for k in (1, 5, 10)}
    return {name: 100 * float(np.mean(value)) for name, value in values.items()}


def format_metrics(metrics: dict[str, float]) -> str:
    """Return the metrics in one line."""
    return ', '.join(f'{name} {value:.3f}' for name, value in metrics.items())


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
