# The training images of four sets: 69,447 of 3,261 identities; tested on Market-1501. --data-root: their common folder.
_base_ = './market1501_256x128.py'

data_preprocessor = dict(num_classes=3261)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='reprefine.MergedReID',
        data_root='data',
        datasets=[
            dict(type='reprefine.CUHK03', data_root='data/cuhk03'),
            dict(type='reprefine.MSMT17', data_root='data/msmt17'),
            dict(type='reprefine.DukeMTMC', data_root='data/dukemtmc'),
            dict(type='reprefine.Market1501', data_root='data/market1501'),
        ],
        pipeline=_base_.train_pipeline,
    )
)
