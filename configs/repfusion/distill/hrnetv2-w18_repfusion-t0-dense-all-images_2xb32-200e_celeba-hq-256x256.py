# As in the released code: also with the images of the later test split, without their labels.
_base_ = './hrnetv2-w18_repfusion-t0-dense_2xb32-200e_celeba-hq-256x256.py'

train_dataloader = dict(dataset=dict(split='all'))
