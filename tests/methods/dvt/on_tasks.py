"""DVT on every task: its snippet, and what it takes over a baseline of each."""

from tests.combinations.matrix import R50, VIT, Cell, Method

NO_PATCHES = 'the baseline classifies the class token, and a denoiser needs patch features'
NO_POSITIONS = 'the baseline is a convolutional network, whose features have no artifacts of position embeddings'
METHOD = Method(
    title='DVT',
    readme='dvt',
    about='A trained denoiser is the neck between a frozen ViT and the head. It was trained without labels, by one of '
    'the configs in `configs/dvt/denoiser`.',
    files={
        'train.py': """\
_base_ = 'reprefine::baselines/$baseline.py'
features = dict(model_id='vit_base_patch14_dinov2.lvd142m')
denoiser = 'work_dirs/dvt/denoiser/vit-b-dinov2_denoiser_8xb8-100k_voc10k/$denoiser'
neck = dict(type='reprefine.DVTDenoiser', in_channels=768, grid=37, features=features, checkpoint=denoiser)
model = dict(neck=$neck)
"""
    },
    cells=dict(
        classification=Cell(
            'classification/attentive/vit-b-dinov2_attentive_8xb128-10e_in1k', dict(neck='[neck, _base_.model.neck]')
        ),
        reid=Cell(VIT['reid'], dict(neck='dict(neck, _delete_=True)'), NO_PATCHES, 'not a feature map'),
        detection=Cell(R50['detection'], dict(neck='dict(neck, _delete_=True)'), NO_POSITIONS, 'channels'),
        segmentation=Cell(VIT['segmentation'], dict(neck='neck')),
        face_parsing=Cell(R50['face_parsing'], dict(neck='neck'), NO_POSITIONS, 'channels'),
        landmarks=Cell(R50['landmarks'], dict(neck='dict(neck, _delete_=True)'), NO_POSITIONS, 'channels'),
        depth=Cell(VIT['depth'], dict(neck='neck')),
    ),
    link='model.neck.',
)
