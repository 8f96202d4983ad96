# iNaturalist 2018; the lists are written by tools/dataset_tools/prepare_inaturalist.py.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32_pil_resize.py'

data_preprocessor = dict(num_classes=8142)
images = dict(_delete_=True, type='CustomDataset', data_root='data/inaturalist2018')
train_dataloader = dict(dataset=dict(ann_file='meta/train2018.txt', pipeline=_base_.train_pipeline, **images))
val_dataloader = dict(dataset=dict(ann_file='meta/val2018.txt', pipeline=_base_.test_pipeline, **images))
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type='reprefine.ShotAccuracy', train_list='data/inaturalist2018/meta/train2018.txt')
test_evaluator = val_evaluator
