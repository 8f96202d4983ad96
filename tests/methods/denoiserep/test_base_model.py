"""A refined model is its base model: names, attributes and weights, for each library and each form of config."""

import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.engine.cli.launch import load_config
from reprefine.engine.config_check.check import check_config
from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import DenoiseRep, denoise_layers
from reprefine.models.refinement import refined_type
from reprefine.registry import MODELS
from tests.helpers.small_models import HOSTS, POSE, predictions, refined, stock_config

TIMM = """
_base_ = 'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py'
model = dict(
    _delete_=True, type='TimmClassifier', model_name='vit_tiny_patch16_224', img_size=32, embed_dim=16, depth=2,
    num_heads=2, num_classes=4, data_preprocessor=dict(num_classes=4))
"""
HUGGING_FACE = """
_base_ = 'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py'
model = dict(_delete_=True, type='HuggingFaceClassifier', model_name='tiny', data_preprocessor=dict(num_classes=4))
"""
CLASSIFIERS = {'timm': TIMM, 'hugging face': HUGGING_FACE}
CASES = [*HOSTS, *CLASSIFIERS]


class HuggingFaceNetwork(nn.Module):
    """As the networks of transformers, whose output has ``logits``."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, images):
        return SimpleNamespace(logits=self.mlp(images.mean((2, 3))))


@pytest.fixture
def transformers(monkeypatch):
    """A stand-in for the package, which is not needed otherwise."""
    classifiers = pytest.importorskip('mmpretrain.models').HuggingFaceClassifier
    auto = SimpleNamespace(from_pretrained=lambda name: name)
    model = SimpleNamespace(from_config=lambda name: HuggingFaceNetwork())
    module = SimpleNamespace(AutoConfig=auto, AutoModelForImageClassification=model)
    monkeypatch.setitem(sys.modules, 'transformers', module)
    monkeypatch.setattr(classifiers, '__init__', getattr(classifiers.__init__, '__wrapped__', classifiers.__init__))


def pair(case: str) -> tuple[nn.Module, DenoiseRep]:
    """The base model and the refined one, with other weights, each from an inherited official config."""
    if case in CLASSIFIERS:
        library, text, include = 'mmpretrain', CLASSIFIERS[case], 'mlp'
        config = stock_config(library, text)
        denoised = config | dict(type='reprefine.DenoiseRep', base_type=config.type, denoise=dict(include=include))
    else:
        library, text, include = HOSTS[case][:3]
        config = stock_config(library, text)
        assert config['_scope_'] == library  # as mmengine marks what is inherited by package
        denoised = stock_config(library, refined(text, 'reprefine.DenoiseRep', denoise=dict(include=include)))
    return MODELS.build(config), MODELS.build(denoised)


@pytest.mark.usefixtures('transformers')
@pytest.mark.parametrize('case', CASES)
def test_names_and_attributes_are_those_of_the_base_and_its_predictors(case):
    base, model = pair(case)
    assert type(model) is refined_type(DenoiseRep, type(base))
    assert isinstance(model, type(base))
    assert vars(model).keys() == vars(base).keys() | {'denoise', '_denoise_state'}
    for kind in ('named_parameters', 'named_buffers', 'named_modules'):
        names, own = ([name for name, _ in getattr(network, kind)()] for network in (base, model))
        assert [name for name in own if '.denoiser' not in name] == names
        added = [name.partition('.denoiser')[0] for name in own if '.denoiser' in name]
        assert set(added) == set(denoise_layers(model))
        assert set(added) <= {name for name, _ in base.named_modules()}


@pytest.mark.usefixtures('transformers')
@pytest.mark.parametrize('case', CASES)
def test_weights_load_from_the_base_to_the_refined_model_and_reparameterised_back(case):
    base, model = pair(case)
    missing, unexpected = model.load_state_dict(base.state_dict(), strict=False)
    assert unexpected == []
    assert {name.rpartition('.denoiser.')[0] for name in missing} == set(denoise_layers(model))
    state = model.state_dict()
    assert [key for key in state if '.denoiser.' not in key] == list(base.state_dict())
    assert set(state) - set(base.state_dict()) == {as_saved(case, name) for name in model.added_keys}
    for key, value in base.state_dict().items():
        assert torch.equal(state[key], value), key
    layers = denoise_layers(model)
    with torch.no_grad():
        for layer in layers.values():
            layer.denoiser.weight.add_(1)
    model.switch_to_deploy()
    deployed = model.state_dict()
    base.load_state_dict(deployed, strict=True)
    assert list(deployed) == list(base.state_dict())
    changed = [key for key in deployed if not torch.equal(deployed[key], state[key])]
    assert {key.rpartition('.')[0] for key in changed} == {as_saved(case, name) for name in layers}


def as_saved(case: str, name: str) -> str:
    """The name in the state dict: these classifiers leave out the prefix of their network."""
    return name.removeprefix('model.') if case in CLASSIFIERS else name


@pytest.mark.usefixtures('transformers')
@pytest.mark.parametrize('case', CLASSIFIERS)
def test_classifiers_around_other_packages_are_trained_and_deployed(case):
    from tests.helpers.small_models import classification_batch

    base, model = pair(case)
    batch = classification_batch()
    losses = model.train()(**model.data_preprocessor(batch, True), mode='loss')
    assert set(losses) == {'loss_task', 'loss_denoise'}
    sum(losses.values()).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, _ in model.named_parameters() if '.denoiser.' in name
    }
    expected = predictions(model, batch, lambda sample: sample.pred_score)
    model.switch_to_deploy()
    base.load_state_dict(model.state_dict())
    torch.testing.assert_close(predictions(base, batch, lambda sample: sample.pred_score), expected)


def test_a_classifier_of_a_package_that_is_not_there_says_so():
    pytest.importorskip('mmpretrain.models')
    with pytest.MonkeyPatch.context() as patch:
        try:
            import transformers
        except ImportError:
            transformers = None
        if transformers is not None:
            pytest.skip('transformers is installed')
        patch.setitem(sys.modules, 'transformers', None)
        with DefaultScope.overwrite_default_scope('mmpretrain'), pytest.raises(ImportError) as refused:
            MODELS.build(dict(type='reprefine.DenoiseRep', base_type='HuggingFaceClassifier', model_name='tiny'))
    assert 'requires transformers, please install it by `pip install "transformers"`' in str(refused.value)


NESTED = [
    dict(model=dict(type='TopdownPoseEstimator'), include='conv', loss_weight=0.1),
    dict(module=dict(type='TopdownPoseEstimator'), denoise=dict(include='conv', loss_weight=0.1)),
    dict(model=dict(type='TopdownPoseEstimator'), include='conv', data_preprocessor=dict(mean=[1]), loss_weight=0.1),
]


@pytest.mark.parametrize('nested', NESTED)
def test_the_former_nested_form_is_refused_with_the_flat_form_in_the_message(nested):
    """By the check of the config, and where a model is built without it."""
    config = dict(type='reprefine.DenoiseRep', **nested)
    flat = (
        "write dict(type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, "
        "denoise=dict(include='conv', loss_weight=0.1))"
    )
    with pytest.raises(UserError) as by_check:
        check_config(Config(dict(default_scope='mmpose', model=config)))
    with pytest.raises(UserError) as by_build:
        MODELS.build(config)
    assert str(by_check.value) == f'model: {by_build.value}'
    assert str(by_build.value).endswith(flat)


def test_the_flat_form_that_is_written_out_builds(tmp_path):
    """The form in the error message works in a config that inherits the one of the base model."""
    (tmp_path / 'base.py').write_text(POSE)
    with pytest.raises(UserError) as refused:
        MODELS.build(dict(type='reprefine.DenoiseRep', model=dict(type='TopdownPoseEstimator'), include='conv'))
    written = str(refused.value).partition(' write ')[2]
    (tmp_path / 'leaf.py').write_text(f"_base_ = './base.py'\nmodel = {written}\n")
    pytest.importorskip('mmpose')
    cfg = load_config(str(tmp_path / 'leaf.py'))
    with DefaultScope.overwrite_default_scope('mmpose'):
        assert len(denoise_layers(MODELS.build(cfg.model))) == 21


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(base_type='TopdownPoseEstimater'), r"base_type.*TopdownPoseEstimater.*'TopdownPoseEstimator'"),
        (dict(base_type='reprefine.DenoiseRep'), r'base_type.*has a base_type of its own'),
        (dict(denoise=dict(inclued='conv')), r"model.denoise.inclued: .*'include'"),
        (dict(denoise=dict(los_weight=1)), r"model.denoise.los_weight: .*'loss_weight'"),
        (dict(denoise=dict(timestepp=1)), r"model.denoise.timestepp: .*'timestep'"),
        (dict(denois=dict()), r"model.denois: .*'denoise'"),
        (dict(backbon=dict()), r"model.backbon: .*'backbone'"),
        (dict(backbone=dict(detph=18)), r"model.backbone.detph: .*'depth'"),
        (dict(include='conv'), r'model.include: '),
    ],
)
def test_a_typing_error_is_refused_with_the_likely_name(changes, message):
    pytest.importorskip('mmpose')
    cfg = Config.fromstring(refined(POSE, 'reprefine.DenoiseRep', denoise=dict(include='conv')), '.py')
    cfg.merge_from_dict(dict(model=changes))
    with pytest.raises(UserError, match=message):
        check_config(cfg)


def test_options_of_the_conversion_pass_the_check():
    pytest.importorskip('mmpose')
    denoise = dict(include=['conv'], types=None, side='output', timestep={'.': 3}, log_layers=True, denoise_eval=False)
    cfg = Config.fromstring(refined(POSE, 'reprefine.DenoiseRep', denoise=denoise), '.py')
    check_config(cfg)


def test_a_class_as_base_type_of_a_new_style_config(tmp_path):
    pytest.importorskip('mmpose')
    (tmp_path / 'lazy.py').write_text(
        'from mmengine.config import read_base\n'
        'from mmpose.models import TopdownPoseEstimator\n'
        'from reprefine.methods.denoiserep import DenoiseRep\n'
        f'stock = {dict(stock_config("mmpose", POSE).to_dict())!r}\n'
        "stock.pop('type')\n"
        'model = dict(**stock) | dict('
        "type=DenoiseRep, base_type=TopdownPoseEstimator, denoise=dict(include='conv'))\n"
        "default_scope = 'mmpose'\n"
    )
    cfg = load_config(str(tmp_path / 'lazy.py'))
    with DefaultScope.overwrite_default_scope('mmpose'):
        model = MODELS.build(cfg.model)
    assert len(denoise_layers(model)) == 21


OURS = """
_base_ = 'reprefine::{path}'
model = dict(type='reprefine.DenoiseRep', base_type={{{{_base_.model.type}}}}, denoise=dict(include={include!r}))
"""


@pytest.mark.parametrize(
    ('path', 'include', 'scope'),
    [
        ('baselines/detection/retinanet_r50_fpn_1x_coco.py', 'conv', 'mmdet'),
        ('baselines/classification/vit-tiny_digits.py', 'mlp', 'mmpretrain'),
    ],
)
def test_a_config_of_ours_is_a_base_by_name(path, include, scope, tmp_path):
    pytest.importorskip(scope)
    file = tmp_path / 'leaf.py'
    file.write_text(OURS.format(path=path, include=include))
    cfg = load_config(str(file))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    assert type(model).__name__ == f'DenoiseRep{type(model).refines[1].__name__}'
    assert denoise_layers(model)
