_base_ = '../../baselines/classification/resnet14-narrow_5e_mnist5k-32px.py'

model = dict(
    type='reprefine.KDClassifier',
    teacher=dict(
        model=dict(
            _base_.model,
            backbone=dict(_base_.model.backbone, stem_channels=32, base_channels=32),
            head=dict(_base_.model.head, in_channels=128),
        ),
        pretrained='work_dirs/baselines/classification/resnet14-w32_5e_mnist5k-32px/epoch_5.pth',
    ),
    kd=dict(type='reprefine.SoftTargetKD', loss_weight=1.0, temperature=4.0),
)
