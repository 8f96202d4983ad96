"""The feature cache returns the features of the teacher, and computes each once."""

import pytest
import torch
from mmengine.registry import MODELS
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion.teacher.feature_cache import CachedDiffusionTeacher, FeatureStore

from ..run import MODEL, distiller, trained
from ..tiny import LAYER, TEACHER, UNET, tiny_teacher

X = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
T = torch.full((6,), 40)
LAYERS = [LAYER, ['mid_block', 16]]


def cached(folder, capacity=6, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = {**TEACHER, 'layers': LAYERS, **options}
        config.pop('type')
        return CachedDiffusionTeacher(**config, cache_dir=str(folder), capacity=capacity)


def count_passes(teacher):
    sizes = []
    teacher.unet.register_forward_pre_hook(lambda m, args: sizes.append(len(args[0])))
    return sizes


@pytest.mark.parametrize('pooled', [False, True])
def test_cached_features_are_those_of_the_teacher(tmp_path, pooled):
    teacher, expected = cached(tmp_path, pooled=pooled), tiny_teacher(layers=LAYERS)(X, T)
    expected = [feat.mean(dim=(2, 3), keepdim=True) for feat in expected] if pooled else expected
    passes = count_passes(teacher)
    for _ in range(3):
        for feat, expected_feat in zip(teacher(X, T), expected, strict=True):
            assert_close(feat, expected_feat, rtol=1e-5, atol=1e-6)
    assert passes == [6]


def test_only_missing_entries_are_computed_in_any_order(tmp_path):
    teacher, uncached = cached(tmp_path), tiny_teacher(layers=LAYERS)
    passes = count_passes(teacher)
    teacher(X[:2], T[:2])
    order = torch.tensor([5, 0, 3, 1, 0])
    assert_close(teacher(X[order], T[order])[0], uncached(X[order], T[order])[0], rtol=1e-5, atol=1e-6)
    assert passes == [2, 2]


def test_another_process_reads_the_entries_and_a_changed_teacher_does_not(tmp_path):
    expected = cached(tmp_path)(X, T)[0]
    again = cached(tmp_path)
    passes = count_passes(again)
    again._store = None
    again(X[:1], T[:1])  # opens the store
    assert torch.equal(again(X, T)[0], expected)
    assert sum(passes) <= 1
    changed = cached(tmp_path)
    changed.unet.conv_in.bias.data += 1
    assert not torch.allclose(changed(X, T)[0], expected)
    assert len(list(tmp_path.iterdir())) == 2


def test_timestep_and_class_are_part_of_the_key(tmp_path):
    source = {**UNET, 'num_class_embeds': 3}
    options = dict(source=source, label_map='identity')
    teacher, uncached = cached(tmp_path, 18, **options), tiny_teacher(layers=LAYERS, **options)
    for t in (40, 41):
        for label in (0, 1):
            given = X[:2], torch.full((2,), t), torch.full((2,), label)
            assert_close(teacher(*given)[0], uncached(*given)[0], rtol=1e-5, atol=1e-6)


def test_class_is_not_part_of_the_key_of_an_unconditional_teacher(tmp_path):
    teacher = cached(tmp_path)
    passes = count_passes(teacher)
    for labels in (None, torch.zeros(6, dtype=torch.long), torch.arange(6)):
        teacher(X, T, labels)
    assert passes == [6]


def test_pooled_features_and_maps_have_separate_stores(tmp_path):
    for pooled in (False, True):
        shape = cached(tmp_path, pooled=pooled)(X, T)[0].shape
        assert (shape[2:] == (1, 1)) is pooled


def test_cached_features_of_class_0_are_not_returned_for_an_unlabelled_image(tmp_path):
    teacher = cached(tmp_path, source={**UNET, 'num_class_embeds': 3}, label_map='identity')
    teacher(X, T, torch.zeros(len(X), dtype=torch.long))
    for labels in (None, torch.tensor([0, 0, 0, 0, 0, -1])):
        with pytest.raises(UserError, match='have no labels'):
            teacher(X, T, labels)


def test_new_images_in_a_full_store_are_an_error(tmp_path):
    teacher = cached(tmp_path)
    teacher(X, T)
    with pytest.raises(UserError, match=r'full \(6 entries\), but there are new images.*random augmentation'):
        teacher(X + 1, T)
    with pytest.raises(UserError, match='fix the timestep'):
        teacher(X, T + 1)
    with pytest.raises(UserError, match="needs noise_mode='none'"):
        cached(tmp_path, noise_mode='forward')


def test_store_of_another_capacity_or_a_corrupted_one_is_an_error(tmp_path):
    FeatureStore(tmp_path, [(2, 1, 1)], 4)
    with pytest.raises(UserError, match='restore the capacity'):
        FeatureStore(tmp_path, [(2, 1, 1)], 5)
    (tmp_path / 'layer0.npy').write_bytes(b'nothing')
    with pytest.raises(UserError, match='is corrupted'):
        FeatureStore(tmp_path, [(2, 1, 1)], 4)


def test_distillation_with_a_cache_equals_that_without(tmp_path):
    source = dict(type='reprefine.FixedTimesteps', timestep=40)
    # Fixed statistics: those of four images magnify without bound what other batches round otherwise.
    student = dict(backbone=MODEL['student']['backbone'] | dict(norm_eval=True))
    uncached = distiller(timestep_source=source, student=student)
    config = {
        **TEACHER,
        'type': 'reprefine.CachedDiffusionTeacher',
        'cache_dir': str(tmp_path / 'cache'),
        'capacity': 12,
    }
    assert MODELS.get('reprefine.CachedDiffusionTeacher') is CachedDiffusionTeacher
    with_cache = distiller(timestep_source=source, student=student, teacher=config)
    start = torch.cat([p.detach().flatten() for p in uncached.parameters()])
    passes = count_passes(with_cache.teacher)
    runs = [trained(tmp_path / name, model=model) for name, model in (('uncached', uncached), ('cache', with_cache))]
    assert passes == [4, 4, 4]  # the first of three epochs
    cached_weights, weights = (torch.cat([p.flatten() for p in run.model.parameters()]) for run in reversed(runs))
    assert (cached_weights - weights).norm() < 1e-4 * (weights - start).norm()
