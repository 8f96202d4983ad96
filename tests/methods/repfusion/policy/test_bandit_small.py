"""Twenty timesteps of which one is best, for every baseline, and classes with different best timesteps."""

import pytest
import torch

from reprefine.methods.repfusion.functional import linear_decay

from .bandit import make_bandit, probabilities, train_step

BEST = 13


def one_best(logits, feats, labels):
    return torch.where(feats[:, 0] == BEST, -0.2, -1.0)


def two_best(logits, feats, labels):
    return torch.where(feats[:, 0] == feats[:, 1], -0.2, -1.0)


@pytest.mark.parametrize('baseline', ['none', 'batch_mean', 'ema', 'value'])
@pytest.mark.parametrize('seed', range(3))
def test_policy_finds_the_best_of_twenty(baseline, seed):
    source = make_bandit(one_best, 20, baseline, seed)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(128, 3, 32, 32, generator=generator)
    for iteration in range(200):
        train_step(source, images[torch.randperm(128, generator=generator)[:64]])
        if iteration % 10 == 9 and probabilities(source, images[:64])[BEST] > 0.9:
            return
    pytest.fail(f'P(best) = {probabilities(source, images[:64])[BEST]:.2f} after 200 iterations')


@pytest.mark.parametrize('seed', range(3))
def test_classes_get_their_own_timesteps(seed):
    """Without momentum: with it the policy may settle on one timestep before it tells the classes apart.

    The first seed is trained to the end, the others until both are found.
    """
    source = make_bandit(two_best, 12, 'ema', seed, momentum=0.0)
    generator = torch.Generator().manual_seed(seed)
    classes = torch.arange(64) % 2
    best = torch.tensor([2, 9])[classes]
    for iteration in range(300):
        source.entropy_weight = linear_decay(iteration, 0.1, 0.0, 150)
        images = 0.3 * torch.randn(64, 3, 32, 32, generator=generator) + (2 * classes - 1)[:, None, None, None]
        train_step(source, images, best)
        if iteration % 25 == 24:
            probs = [probabilities(source, images[classes == c]) for c in range(2)]
            is_found = min(probs[0][2], probs[1][9]) > 0.9
            if is_found and seed:
                break
    assert [int(p.argmax()) for p in probs] == [2, 9]
    assert is_found
