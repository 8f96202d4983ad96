# CUHK03, new protocol, detected boxes: 7,365 training images, 1,400 queries, 5,332 gallery images, 2 cameras.
_base_ = './cuhk03-labeled_256x128.py'

train_dataloader = dict(dataset=dict(boxes='detected'))
val_dataloader = dict(dataset=dict(boxes='detected'))
test_dataloader = val_dataloader
