# The training images of four sets: 69,447 of 3,261 identities. --data-root: their common folder.
merged = dict(
    type='reprefine.MergedReID',
    data_root='data',
    datasets=[
        dict(type='reprefine.CUHK03', data_root='data/cuhk03'),
        dict(type='reprefine.MSMT17', data_root='data/msmt17'),
        dict(type='reprefine.DukeMTMC', data_root='data/dukemtmc'),
        dict(type='reprefine.Market1501', data_root='data/market1501'),
    ],
)
merged_classes = 3261
