_base_ = 'mmpretrain::mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py'

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
# The learning rate ends at a thousandth of its start, not at zero.
param_scheduler = [dict(type='CosineAnnealingLR', T_max=200, eta_min=3e-5, by_epoch=True, begin=0, end=200)]
# The lists are written by tools/dataset_tools/imagenet_subset.py.
classes = 'data/imagenet/meta/classes_100.txt'
train_dataloader = dict(dataset=dict(ann_file='meta/train_100.txt', classes=classes))
# A small dataset needs a key encoder that follows faster.
model = dict(momentum=0.01)
