# As in the released code: also with the images of the later test split, without their labels.
_base_ = './resnet18_repfusion-t0-dense_4xb16-200e_celeba-hq-256x256.py'

train_dataloader = dict(dataset=dict(split='all'))
