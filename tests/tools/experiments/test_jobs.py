"""The jobs of all experiments: configs and tools that exist, and files that an earlier job writes."""

from pathlib import Path

import pytest

from reprefine.engine.cli.launch import load_config
from tests.helpers.run_tool import import_beside

OUT = Path('/nowhere/out')


def denoiserep():
    experiment, variants = (
        import_beside('experiments/denoiserep.py', name) for name in ('denoiserep', 'denoiserep_variants')
    )
    rows = (variants.BASELINE, variants.CONTROL, variants.DENOISEREP, *variants.EXTRA.values())
    jobs = [job for seed in (0, 1) for variant in rows for job in experiment.make_jobs(variant, seed, OUT, 'mnist5k')]
    return [*jobs, experiment.cost_job(OUT, 'mnist5k', [job.name for job in jobs])]


def dvt():
    experiment = import_beside('experiments/dvt.py', 'dvt_parts.jobs')
    repetitions = [experiment.Repetition(number, number % 2, OUT) for number in range(3)]
    chosen = experiment.choice_jobs(repetitions[0], 1500)
    names = {job.name for job in chosen}
    return [*chosen, *(job for job in experiment.make_jobs(repetitions, 1500, 300) if job.name not in names)]


def feature_transform():
    experiment = import_beside('experiments/feature_transform.py', 'feature_transform')
    return [
        job for seed in (0, 1) for variant in experiment.VARIANTS for job in experiment.make_jobs(variant, seed, OUT)
    ]


def toy_baselines():
    experiment = import_beside('experiments/toy_baselines.py', 'toy_baselines')
    recipes = experiment.RECIPES
    jobs = [job for name, recipe in recipes.items() for job in experiment.make_jobs(name, recipe, OUT / 'data', OUT)]
    return [experiment.data_job(recipes, OUT / 'data', OUT), *jobs]


@pytest.fixture(params=[denoiserep, dvt, feature_transform, toy_baselines], ids=lambda make: make.__name__)
def jobs(request):
    return request.param()


def test_names_logs_and_products_are_unique_and_dependencies_exist(jobs):
    names = [job.name for job in jobs]
    assert len(names) == len(set(names)) == len({job.log for job in jobs})
    products = [job.product for job in jobs if job.product]
    assert len(products) == len(set(products))
    assert all(set(job.after) < set(names) for job in jobs)


def test_tools_and_configs_exist(jobs):
    for job in jobs:
        paths = [Path(word) for word in job.command if word.endswith('.py')]
        assert paths[0].parts[-3] == 'tools' or paths[0].parts[-2] == 'tools'
        assert all(path.is_file() for path in paths), job.command


def test_files_of_other_jobs_are_products_of_jobs_that_run_before(jobs):
    """Checkpoints in options, and checkpoints that are tested."""
    by_name = {job.name: job for job in jobs}

    def products_before(job):
        earlier = [by_name[name] for name in job.after]
        return {str(other.product) for other in earlier}.union(*map(products_before, earlier))

    found = 0
    for job in jobs:
        words = [word.rpartition('=')[2] for word in job.command[1:]]
        needed = [word for word in words if word.endswith('.pth') and word != str(job.product)]
        found += len(needed)
        # DenoiseRep starts from the training form of the checkpoint whose deployed form is tested.
        assert set(needed) <= products_before(job), job.name
    assert found > 5


def test_the_last_checkpoint_of_a_training_is_that_of_its_schedule(jobs):
    for job in jobs[:25]:
        if not job.command[0].endswith('train.py'):
            continue
        options = [word for word in job.command if word.startswith(('train_cfg.max_epochs', 'train_cfg.max_iters'))]
        pairs = (option.split('=') for option in options)
        train_cfg = load_config(job.command[1], {key: int(value) for key, value in pairs}).train_cfg
        length = train_cfg.get('max_epochs') or train_cfg.get('max_iters', 1)  # 1 of the closed form
        assert job.product.stem.removesuffix('_deploy').split('_')[-1] == str(length), job.name
