# DukeMTMC-reID: 16,522 training images, 2,228 queries, 17,661 gallery images, 8 cameras.
_base_ = './reid_256x128.py'

data_preprocessor = dict(num_classes=702)
_dataset = dict(type='reprefine.DukeMTMC', data_root='data/dukemtmc')
train_dataloader = dict(dataset=_dataset)
val_dataloader = dict(dataset=_dataset)
test_dataloader = val_dataloader
