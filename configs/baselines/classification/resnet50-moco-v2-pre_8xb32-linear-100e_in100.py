_base_ = './resnet50-moco-v2-pre_8xb32-linear-100e_in1k.py'

# The lists are written by tools/dataset_tools/imagenet_subset.py.
checkpoint = 'work_dirs/baselines/selfsup/moco-v2_resnet50_8xb32-coslr-200e_in100/epoch_200.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=checkpoint)), head=dict(num_classes=100))
data_preprocessor = dict(num_classes=100)
classes = 'data/imagenet/meta/classes_100.txt'
train_dataloader = dict(dataset=dict(ann_file='meta/train_100.txt', classes=classes))
val_dataloader = dict(dataset=dict(ann_file='meta/val_100.txt', classes=classes))
test_dataloader = val_dataloader
