# MSMT17: 32,621 training images (train and val), 11,659 queries, 82,161 gallery images, 15 cameras.
_base_ = './reid_256x128.py'

data_preprocessor = dict(num_classes=1041)
_dataset = dict(type='reprefine.MSMT17', data_root='data/msmt17')
train_dataloader = dict(dataset=_dataset)
val_dataloader = dict(dataset=_dataset)
test_dataloader = val_dataloader
