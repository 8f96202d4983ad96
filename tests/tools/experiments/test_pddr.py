"""The end-to-end experiment of PDDR and its control with PD-A's start and step size."""

import argparse
import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from reprefine.engine.cli.launch import load_config
from tests.helpers.run_tool import import_beside

tool = import_beside('experiments/pddr.py', 'pddr')
matched = import_beside('experiments/pddr.py', 'pddr_matched_start')
runner = import_beside('experiments/pddr.py', 'runner')
records = import_beside('experiments/records.py', 'records')


@pytest.fixture
def networks():
    """PD-A and its baseline, float64, the baseline with the matched start."""
    torch.manual_seed(0)
    images = torch.randn(16, 3, 28, 28, dtype=torch.float64)
    configs = [load_config(str(runner.config_file(tool.CONFIGS[label]))) for label in ('PD-A', tool.MATCHED)]
    init_default_scope('mmpretrain')
    pda, plain = (MODELS.build(cfg.model.backbone).double() for cfg in configs)
    pda.init_weights()
    state = matched.matched_state(pda, images)
    plain.load_state_dict({key: value.double() if value.is_floating_point() else value for key, value in state.items()})
    plain.train()  # returns None in mmpretrain
    return pda, plain, images


def test_the_start_has_the_output_of_pda(networks):
    pda, plain, images = networks
    torch.testing.assert_close(plain(images)[0], pda(images)[0], rtol=1e-3, atol=1e-3)


def test_a_step_moves_the_equivalent_kernels_as_far_as_in_pda(networks):
    pda, plain, images = networks
    unmatched = copy.deepcopy(plain)
    unmatched.init_weights()
    for block in (block for stage in (1, 2, 3) for block in getattr(unmatched, f'layer{stage}')):
        for norm in (block.bn1, block.bn2):
            torch.nn.init.ones_(norm.weight)
    ratios, unmatched_ratios = [], []
    moved = {net: kernel_steps(net, images) for net in (pda, plain, unmatched)}
    for name, expected in moved[pda].items():
        ratios.append((moved[plain][name] / expected).item())
        unmatched_ratios.append((moved[unmatched][name] / expected).item())
    assert all(0.6 < ratio < 1.6 for ratio in ratios), ratios
    assert sum(unmatched_ratios) / len(unmatched_ratios) < 0.6, unmatched_ratios


def kernel_steps(net, images, rate=1e-4):
    """Norm of the change of each equivalent kernel, with fixed statistics, by one small step."""
    labels = torch.randn(len(images), 128, dtype=images.dtype, generator=torch.Generator().manual_seed(1))
    before = kernels(net, images)
    (net(images)[0].mean((2, 3)) * labels).sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim == 4:
                parameter -= rate * parameter.grad
    after = kernels(net, images)
    return {name: (after[name] - before[name]).norm() for name in before}


@torch.no_grad()
def kernels(net, images):
    """Equivalent kernels with the statistics of the images."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    net(images)
    found = {}
    for stage in (1, 2, 3):
        for index, block in enumerate(getattr(net, f'layer{stage}')):
            for number in (1, 2):
                conv = getattr(block, f'conv{number}')
                if isinstance(conv, matched.PDConv):
                    kernel = conv.equivalent_kernels_biases()[0].sum(0)
                else:
                    norm = getattr(block, f'bn{number}')
                    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
                    kernel = conv.weight * scale[:, None, None, None]
                found[f'{stage}.{index}.{number}'] = kernel
    return found


def test_the_norms_of_the_control_have_the_rate_of_five_norms():
    cfg = load_config(str(runner.config_file(tool.CONFIGS[tool.MATCHED])))
    init_default_scope('mmpretrain')
    model = MODELS.build(cfg.model)
    groups = build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
    rates = {id(group['params'][0]): (group['lr'], group['weight_decay']) for group in groups}
    for name, parameter in model.named_parameters():
        is_norm = any(f'.bn{number}.' in name and 'layer' in name for number in (1, 2))
        factor = 5 if is_norm else 1
        assert rates[id(parameter)] == pytest.approx((0.025 * factor, 1e-4 / factor)), name


def test_all_networks_run_as_many_iterations_and_the_record_has_them(tmp_path):
    for size in tool.SIZES:
        iterations = -(-size.images // 64) * size.epochs
        assert 450 <= iterations <= 510
    args = argparse.Namespace(out=tmp_path, seeds=2, jobs=1)
    names = {
        job.name for size in tool.SIZES for label in tool.CONFIGS for job in tool.make_jobs(tmp_path, size, label, 0)
    }
    assert len(names) == 2 * (2 * len(tool.CONFIGS) + 1)
    for size in tool.SIZES:
        for number, label in enumerate(tool.CONFIGS):
            for seed in range(2):
                folder = tool.work_dir(tmp_path, size, label, seed)
                folder.mkdir()
                (folder / 'test.json').write_text(f'{{"accuracy/top1": {90 + number + seed / 10}}}')
    record = tool.make_record(args, list(tool.SIZES), 60)
    records.check_record(record)
    assert record.row('PD-B').values == dict(images3000=[94, 94.1], images300=[94, 94.1])


def test_the_start_is_not_a_checkpoint_of_the_work_dir(tmp_path):
    start, train, _ = tool.make_jobs(tmp_path, tool.SIZES[0], tool.MATCHED, 0)
    assert f'load_from={start.product}' in train.command and train.after == (start.name,)
    assert start.product.parent != tool.work_dir(tmp_path, tool.SIZES[0], tool.MATCHED, 0)
