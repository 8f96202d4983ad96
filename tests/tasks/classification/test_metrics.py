import pytest
import torch
from mmengine.registry import METRICS
from mmpretrain.evaluation.metrics import Accuracy

from reprefine.engine.errors import UserError
from reprefine.tasks.classification.image_lists import write_list
from reprefine.tasks.classification.metrics import shot_accuracy

# Classes with 150, 100, 20, 19 and 0 training images: many, medium, medium, few, few.
SIZES = (150, 100, 20, 19, 0)


@pytest.fixture
def train_list(tmp_path):
    file = tmp_path / 'train.txt'
    write_list([(f'{n}.jpg', label) for label, size in enumerate(SIZES) for n in range(size)], file)
    return str(file)


def outputs(predicted, truth):
    return [
        dict(pred_score=torch.eye(5)[p], pred_label=torch.tensor([p]), gt_label=torch.tensor([t]))
        for p, t in zip(predicted, truth, strict=True)
    ]


def test_groups_by_hand():
    truth = torch.tensor([0, 0, 1, 2, 2, 3, 4, 4])
    predicted = torch.tensor([0, 1, 1, 2, 0, 0, 4, 4])
    result = shot_accuracy(predicted, truth, torch.tensor(SIZES))
    assert result == pytest.approx({'many_shot': 50, 'medium_shot': 200 / 3, 'few_shot': 200 / 3})


def test_bounds_define_the_groups_and_empty_groups_are_left_out():
    truth = torch.tensor([0, 1, 2])
    result = shot_accuracy(torch.tensor([0, 1, 0]), truth, torch.tensor(SIZES), many=10, few=5)
    assert result == pytest.approx({'many_shot': 200 / 3})


def test_weighted_mean_of_the_groups_is_the_accuracy():
    generator = torch.Generator().manual_seed(0)
    truth, predicted = torch.randint(5, (2, 400), generator=generator)
    counts = torch.tensor(SIZES)
    shots = shot_accuracy(predicted, truth, counts)
    share = {'many_shot': counts[truth] > 100, 'few_shot': counts[truth] < 20}
    share['medium_shot'] = ~(share['many_shot'] | share['few_shot'])
    mean = sum(shots[name] * group.double().mean().item() for name, group in share.items())
    assert mean == pytest.approx(100 * (predicted == truth).double().mean().item())


@pytest.mark.parametrize('key', ['pred_score', 'pred_label'])
def test_metric_adds_the_groups_to_the_accuracy_of_mmpretrain(train_list, key):
    predicted, truth = (0, 1, 1, 3, 0), (0, 0, 1, 3, 4)
    samples = [{k: v for k, v in sample.items() if k in (key, 'gt_label')} for sample in outputs(predicted, truth)]
    shots, accuracy = METRICS.build(dict(type='reprefine.ShotAccuracy', train_list=train_list)), Accuracy()
    for metric in (shots, accuracy):
        metric.process(None, samples)
    result = shots.evaluate(5)
    assert result.pop('accuracy/top1') == accuracy.evaluate(5)['accuracy/top1'] == pytest.approx(60)
    assert result == {'accuracy/many_shot': 50, 'accuracy/medium_shot': 100, 'accuracy/few_shot': 50}


def test_wrong_arguments_are_named(train_list, tmp_path):
    with pytest.raises(UserError, match='few=30 is above many=10'):
        METRICS.build(dict(type='reprefine.ShotAccuracy', train_list=train_list, many=10, few=30))
    metric = METRICS.build(dict(type='reprefine.ShotAccuracy', train_list=str(tmp_path / 'no.txt')))
    metric.process(None, outputs([0], [0]))
    with pytest.raises(UserError, match=r'no\.txt does not exist'):
        metric.evaluate(1)
