# A linear classifier on the features of an encoder pre-trained on MNIST-5k, from 10 labelled UCI digits a class.
_base_ = [
    '../../_base_/models/resnet14-narrow.py',
    '../../_base_/datasets/digits.py',
    '../../_base_/schedules/sgd_linear_30e.py',
    '../../_base_/runtime.py',
]

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/baselines/selfsup/moco-v2_resnet14-narrow_60e_mnist5k/epoch_60.pth'
init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
model = dict(
    type='ImageClassifier',
    backbone=dict(frozen_stages=3, norm_eval=True, init_cfg=init_cfg, **_base_.backbone),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=64, loss=dict(type='CrossEntropyLoss')),
)
# Size and normalisation as in pre-training, no augmentation.
data_preprocessor = dict(mean=[33.4] * 3, std=[78.6] * 3)
plain = [dict(type='Resize', scale=32), dict(type='PackInputs')]
labelled = dict(type='reprefine.SmallDigits', source='digits', split='train', per_class=10, pipeline=plain)
# 20 batches of the 100 images an epoch.
train_dataloader = dict(batch_size=50, dataset=dict(_delete_=True, type='RepeatDataset', times=10, dataset=labelled))
val_dataloader = dict(dataset=dict(pipeline=plain))
test_dataloader = dict(dataset=dict(pipeline=plain))
