# A long-tailed part of ImageNet-100, written by tools/dataset_tools/{imagenet_subset,long_tail_list}.py.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py'

data_preprocessor = dict(num_classes=100)
classes = 'data/imagenet/meta/classes_100.txt'
train_dataloader = dict(dataset=dict(ann_file='meta/train_100_lt.txt', classes=classes))
val_dataloader = dict(dataset=dict(ann_file='meta/val_100.txt', classes=classes))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='reprefine.ShotAccuracy', train_list='data/imagenet/meta/train_100_lt.txt')
test_evaluator = val_evaluator
