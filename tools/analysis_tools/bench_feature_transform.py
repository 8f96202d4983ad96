"""Measure the time of the contrastive loss and its gradient for several implementations of the mixed queue."""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/analysis_tools/bench_feature_transform.py --batch-size 32 --queue-len 65536 --feat-dim 128
"""
TEMPERATURE, MU = 0.2, 0.3
Work = Callable[[], Tensor | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--batch-size', type=int, default=32, help='queries')
    parser.add_argument('--queue-len', type=int, default=65536, help='negatives')
    parser.add_argument('--feat-dim', type=int, default=128, help='length of a feature')
    parser.add_argument('--repeats', type=int, default=15, help='timed rounds')
    parser.add_argument('--warmup', type=int, default=3, help='untimed rounds before them')
    parser.add_argument('--device', default='cpu', help='torch device, such as cuda:0')
    parser.add_argument('--threads', type=int, help="threads of a CPU (default: torch's)")


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    if min(args.batch_size, args.queue_len, args.feat_dim, args.repeats) < 1:
        raise UserError('sizes and --repeats must be positive')
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads or threads)
    try:
        measure(args)
    finally:
        torch.set_num_threads(threads)


def measure(args: argparse.Namespace) -> None:
    """Check that equivalent implementations agree, time all of them alternately and print a table."""
    works, query = make_works(args.batch_size, args.queue_len, args.feat_dim, args.device)
    check_agreement(works, query)
    times = {name: [] for name in works}
    for index in range(args.warmup + args.repeats):
        for name in works if index % 2 else reversed(works):
            seconds = timed(works[name], query)
            if index >= args.warmup:
                times[name].append(seconds)
    baseline = times['MoCo']
    print(f'{"":34} {"median ms":>10} {"x MoCo":>8}   ({args.repeats} alternating rounds, ratio within each round)')
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, baseline, strict=True))
        print(f'{name:34} {1e3 * statistics.median(seconds):10.1f} {ratio:8.2f}')


def make_works(batch: int, keys: int, dims: int, device: str) -> tuple[dict[str, Work], Tensor]:
    """Return the timed functions by name, and the queries whose gradient all but the last two compute."""
    from reprefine.methods.feature_transform import FeatureTransform, queue_cross_entropy, symmetric_beta
    from reprefine.methods.feature_transform.loss import ContrastiveFeatures

    torch.manual_seed(0)
    q, k = (F.normalize(torch.randn(batch, dims, device=device), dim=1) for _ in range(2))
    queue = F.normalize(torch.randn(dims, keys, device=device), dim=0)
    q.requires_grad_()
    mu, element = torch.tensor(MU), FeatureTransform(None, dict(granularity='element'))

    def head(neg: Tensor) -> Tensor:
        logits = torch.cat(((q * k).sum(1, keepdim=True), neg), dim=1)
        logits /= TEMPERATURE
        return F.cross_entropy(logits, torch.zeros(batch, dtype=torch.long, device=device))

    def perm() -> Tensor:
        return torch.randperm(keys, device=device)

    def mixed_queue() -> Tensor:
        copy, order = queue.clone(), perm()
        return head(q @ (MU * copy + (1 - MU) * copy[:, order]))

    def columns() -> Tensor:
        scores, order = q @ queue.clone(), perm()
        return head(MU * scores + (1 - MU) * scores[:, order])

    def reprefine(with_stats: bool, *raw: Tensor) -> Tensor:
        return queue_cross_entropy(ContrastiveFeatures(q, k, queue, mu, perm()), TEMPERATURE, raw or None, with_stats)[
            0
        ]

    def draw(sample: Callable[[], Tensor]) -> None:
        sample()

    beta = torch.distributions.Beta(torch.tensor(1.6, device=device), torch.tensor(1.6, device=device))
    works = {
        'MoCo': lambda: head(q @ queue.clone()),
        'mixed queue': mixed_queue,
        'mixed scores, column gather': columns,
        'reprefine': lambda: reprefine(False),
        'reprefine with statistics': lambda: reprefine(True, q.detach(), k),
        'MoCo with the loss of reprefine': lambda: queue_cross_entropy(
            ContrastiveFeatures(q, k, queue), TEMPERATURE, None, False
        )[0],
        'element-wise, draws included': lambda: queue_cross_entropy(
            element.contrastive_features(q, k, queue), TEMPERATURE, None, False
        )[0],
        'one [K, D] Beta draw (published)': lambda: draw(lambda: beta.sample((keys, dims))),
        'one [K, D] Beta draw (reprefine)': lambda: draw(lambda: symmetric_beta(1.6, (keys, dims), device)),
    }
    return works, q


def check_agreement(works: dict[str, Work], query: Tensor) -> None:
    """Raise an error if implementations of the mixed queue differ in loss or gradient."""
    results = []
    for name in ('mixed queue', 'mixed scores, column gather', 'reprefine', 'reprefine with statistics'):
        torch.manual_seed(1)
        query.grad = None
        loss = works[name]()
        loss.backward()
        results.append((loss.detach(), query.grad))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=1e-5)


def timed(work: Work, query: Tensor) -> float:
    """Return the seconds of one forward and backward pass."""
    query.grad = None
    if query.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    loss = work()
    if loss is not None:
        loss.backward()
    if query.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
