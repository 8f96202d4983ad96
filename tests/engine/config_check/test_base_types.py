"""Strict configs of methods that are the base model: arguments of the base type, options of the method."""

import copy

import pytest
from mmengine.config import Config

from reprefine.engine.config_check.check import check_config
from reprefine.engine.config_check.options import merge_options
from reprefine.methods.denoiserep import DenoiseRep
from tests.engine.config_check.test_check import BISENET, POSE, RESNET, RETINANET, official, parsed, put, refusal

METHOD = 'reprefine.DenoiseRep'


def refined(name: str, path: str = 'model', **changes) -> Config:
    """An official config, DenoiseRep being its model, or the part of it at ``path``."""
    cfg = official(name)
    node = cfg
    for key in path.split('.'):
        node = node[key]
    node.update(dict(type=METHOD, base_type=node.type, denoise=dict(include='conv')) | changes)
    return cfg


@pytest.mark.parametrize('name', [RESNET, RETINANET, BISENET, POSE])
def test_an_official_config_of_every_host_passes(name):
    check_config(refined(name))


@pytest.mark.parametrize(
    ('name', 'path', 'starts', 'meant'),
    [
        (RESNET, 'backbon', f"{METHOD} with base_type ImageClassifier takes no argument 'backbon'", 'backbone'),
        (RETINANET, 'bbox_haed', f"{METHOD} with base_type RetinaNet takes no argument 'bbox_haed'", 'bbox_head'),
        (RESNET, 'denois', f"{METHOD} with base_type ImageClassifier takes no argument 'denois'", 'denoise'),
        (RESNET, 'base_tpye', f"{METHOD} with base_type ImageClassifier takes no argument 'base_tpye'", 'base_type'),
        (RESNET, 'denoise.phse', "model.denoise takes no argument 'phse'", 'phase'),
        # An argument of the function that takes the rest of the options.
        (RESNET, 'denoise.bias_polcy', "model.denoise takes no argument 'bias_polcy'", 'bias_policy'),
        (RESNET, 'backbone.dpeth', "ResNet takes no argument 'dpeth'", 'depth'),
        (RETINANET, 'bbox_head.num_class', "RetinaHead takes no argument 'num_class'", 'num_classes'),
    ],
)
def test_misspelt_key(name, path, starts, meant):
    cfg = refined(name)
    put(cfg, f'model.{path}', 1)
    assert refusal(check_config, cfg) == f"model.{path}: {starts}; did you mean '{meant}'?"


@pytest.mark.parametrize(
    ('path', 'value', 'says'),
    [
        ('base_type', 'ImageClasifier', "no model is registered as 'ImageClasifier'; did you mean 'ImageClassifier'?"),
        ('base_type', 3, 'must be the name of a type, not 3'),
        ('type', 'reprefine.DenoisRep', f"as 'reprefine.DenoisRep'; did you mean '{METHOD}'?"),
        ('denoise', 3, 'must be a dict, not 3'),
        ('backbone.type', 'ResNte', "no model is registered as 'ResNte'; did you mean 'ResNet'?"),
    ],
)
def test_wrong_value(path, value, says):
    cfg = refined(RESNET)
    put(cfg, f'model.{path}', value)
    message = refusal(check_config, cfg)
    assert message.startswith(f'model.{path}: ')
    assert message.endswith(says)


@pytest.mark.parametrize(
    ('is_nested', 'options', 'written'),
    [
        (False, {}, ''),
        (False, dict(base_type=None, denoise=dict(include='mlp')), "include='mlp'"),
        (True, {}, ''),
        (True, dict(include='mlp', loss_weight=0.1), "include='mlp', loss_weight=0.1"),
        (True, dict(denoise=dict(include='mlp'), data_preprocessor=dict(std=[1])), "include='mlp'"),
    ],
)
def test_without_a_base_type_the_flat_form_is_written_out(is_nested, options, written):
    cfg = official(RESNET)
    base = dict(model=cfg.model) if is_nested else cfg.model
    cfg.model = {**base, 'type': METHOD, **options}
    assert refusal(check_config, cfg) == (
        'model: DenoiseRep takes the keys of the base model beside its own: inherit the config of the base model and '
        f"write dict(type='{METHOD}', base_type={{{{_base_.model.type}}}}, denoise=dict({written}))"
    )


def test_the_flat_form_of_a_part_names_the_part():
    cfg = official(RESNET)
    cfg.model.backbone.type = METHOD
    assert 'base_type={{_base_.model.backbone.type}}' in refusal(check_config, cfg)


def test_a_plain_type_takes_no_base_type():
    cfg = official(RESNET)
    cfg.model.update(base_type='ResNet', denoise=dict())
    assert refusal(check_config, cfg).startswith("model.base_type: ImageClassifier takes no argument 'base_type'; ")


def test_a_part_of_a_model_is_refined():
    cfg = refined(RESNET, 'model.backbone')
    check_config(cfg)
    cfg.model.backbone.dpeth = 50
    message = refusal(check_config, cfg)
    assert message.startswith(f"model.backbone.dpeth: {METHOD} with base_type ResNet takes no argument 'dpeth'")
    del cfg.model.backbone['dpeth']
    cfg.model.backbone.denoise.includ = 'mlp'
    assert refusal(check_config, cfg).startswith('model.backbone.denoise.includ: ')


def test_a_converted_part_takes_the_options_of_its_function():
    cfg = official(RETINANET)
    neck = cfg.model.neck
    neck.update(type='reprefine.PDConverted', base_type=neck.type, pd=dict(mode='A', rule='fpn_convs'))
    check_config(cfg)
    neck.pd.group_nmu = 2
    assert refusal(check_config, cfg).endswith("takes no argument 'group_nmu'; did you mean 'group_num'?")
    del neck.pd['group_nmu'], neck['base_type']
    message = refusal(check_config, cfg)
    assert message.startswith('model.neck: PDConverted takes the keys of the base model beside its own: ')
    assert "base_type={{_base_.model.neck.type}}, pd=dict(mode='A', rule='fpn_convs')" in message


def test_scope_of_an_inherited_config_finds_the_base_type():
    cfg = official(RETINANET)
    cfg.model.backbone = dict(
        _scope_='mmpretrain', type=METHOD, base_type='VisionTransformer', arch='b', denoise=dict(include='mlp')
    )
    check_config(cfg)
    cfg.model.backbone.acrh = 'b'
    assert "did you mean 'arch'?" in refusal(check_config, cfg)
    del cfg.model.backbone['acrh'], cfg.model.backbone['_scope_']
    message = refusal(check_config, cfg)
    assert message.startswith('model.backbone.base_type: ')
    assert message.endswith("did you mean 'mmpretrain.VisionTransformer'?")


def test_classes_instead_of_names():
    from mmpretrain.models import ImageClassifier

    cfg = refined(RESNET, type=DenoiseRep, base_type=ImageClassifier)
    check_config(cfg)
    cfg.model.backbon = 1
    message = refusal(check_config, cfg)
    assert message.startswith(
        "model.backbon: DenoiseRep with base_type ImageClassifier takes no argument 'backbon'; did you mean 'backbone'?"
    )


def test_what_stands_under_the_keys_of_a_type_does_so_where_it_is_the_base_type():
    """The prototype of a retriever is a data loader, not a model."""
    cfg = official(RESNET)
    prototype = copy.deepcopy(parsed(RESNET).to_dict()['val_dataloader'])
    cfg.model = dict(type='ImageToImageRetriever', image_encoder=cfg.model.backbone, prototype=prototype)
    for _ in range(2):  # plain, and refined
        check_config(cfg)
        cfg.model.prototype.batchsize = 2
        assert refusal(check_config, cfg) == (
            "model.prototype.batchsize: model.prototype takes no argument 'batchsize'; did you mean 'batch_size'?"
        )
        del cfg.model.prototype['batchsize']
        cfg.model.update(type=METHOD, base_type=cfg.model.type, denoise=dict(include='conv'))


@pytest.mark.parametrize(
    ('options', 'found'),
    [
        ({'model.denoise.loss_weight': 1.0}, dict(include='conv', loss_weight=1.0)),
        ({'model.denoise.side': 'narrow'}, dict(include='conv', side='narrow')),  # of the function that converts
        ({'model.denoise': dict(phase='backbone')}, dict(include='conv', phase='backbone')),
    ],
)
def test_options_of_the_method_from_the_command_line(options, found):
    cfg = refined(RESNET)
    merge_options(cfg, options)
    check_config(cfg)
    assert cfg.model.denoise == found


@pytest.mark.parametrize(
    ('option', 'meant'),
    [
        ('model.denoise.phse', 'model.denoise.phase'),
        ('model.denoise.bias_polcy', 'model.denoise.bias_policy'),
        ('model.denois.phase', 'model.denoise'),
        ('model.backbon.depth', 'model.backbone'),
        ('model.backbone.dpeth', 'model.backbone.depth'),
        ('model.pretraned', 'model.pretrained'),
    ],
)
def test_misspelt_option_from_the_command_line(option, meant):
    message = refusal(merge_options, refined(RESNET), {option: 1})
    assert message.startswith(f'--cfg-options {option}: ')
    assert f"did you mean '{meant}'?" in message


def test_arguments_of_the_base_type_from_the_command_line():
    cfg = refined(RESNET)
    merge_options(cfg, {'model.train_cfg': dict(augments=dict(type='Mixup', alpha=0.2)), 'model.backbone.depth': 18})
    check_config(cfg)
    assert cfg.model.backbone.depth == 18


def test_a_plain_config_is_refined_from_the_command_line():
    ways = {'model.denoise.include': 'conv', 'model.base_type': 'ImageClassifier', 'model.type': METHOD}
    cfg = official(RESNET)
    merge_options(cfg, ways)
    check_config(cfg)
    assert cfg.model == refined(RESNET).model
    message = refusal(merge_options, official(RESNET), {'model.base_type': 'ImageClassifier'})
    assert "'model.base_type' is neither in the config nor an argument there" in message
