# A linear classifier on the features of an encoder pre-trained on MNIST-5k, from 10 labelled UCI digits a class.
_base_ = [
    '../../_base_/models/resnet14-narrow.py',
    '../../_base_/models/linear_narrow.py',
    '../../_base_/datasets/digits.py',
    '../../_base_/schedules/sgd_linear_30e.py',
    '../../_base_/runtime.py',
]

# Or --cfg-options model.backbone.init_cfg.checkpoint=FILE
checkpoint = 'work_dirs/baselines/selfsup/moco-v2_resnet14-narrow_60e_mnist5k/epoch_60.pth'
init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
model = dict(backbone=dict(init_cfg=init_cfg, **_base_.backbone))
# Normalisation as in pre-training.
data_preprocessor = dict(mean=[33.4] * 3, std=[78.6] * 3)
labelled = dict(type='reprefine.SmallDigits', source='digits', split='train', per_class=10, pipeline=_base_.plain)
# 20 batches of the 100 images an epoch.
train_dataloader = dict(batch_size=50, dataset=dict(_delete_=True, type='RepeatDataset', times=10, dataset=labelled))
val_dataloader = dict(dataset=dict(pipeline=_base_.plain))
test_dataloader = dict(dataset=dict(pipeline=_base_.plain))
