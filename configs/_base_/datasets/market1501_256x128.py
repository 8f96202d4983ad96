# Market-1501: 12,936 training images, 3,368 queries, 15,913 gallery images, 6 cameras.
_base_ = './reid_256x128.py'

data_preprocessor = dict(num_classes=751)
_dataset = dict(type='reprefine.Market1501', data_root='data/market1501')
train_dataloader = dict(dataset=_dataset)
val_dataloader = dict(dataset=_dataset)
test_dataloader = val_dataloader
