# The training images of four sets; tested on Market-1501. --data-root: their common folder.
_base_ = ['./market1501_256x128.py', './reid-merged.py']

data_preprocessor = dict(num_classes=3261)
train_dataloader = dict(dataset=dict(_base_.merged, _delete_=True, pipeline=_base_.train_pipeline))
