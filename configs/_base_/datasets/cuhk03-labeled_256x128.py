# CUHK03, new protocol, boxes by hand: 7,368 training images, 1,400 queries, 5,328 gallery images, 2 cameras.
_base_ = './reid_256x128.py'

data_preprocessor = dict(num_classes=767)
_dataset = dict(type='reprefine.CUHK03', data_root='data/cuhk03')
train_dataloader = dict(dataset=_dataset)
val_dataloader = dict(dataset=_dataset)
test_dataloader = val_dataloader
