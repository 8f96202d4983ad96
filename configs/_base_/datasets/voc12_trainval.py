images = dict(
    type='VOCDataset',
    data_root='data/VOCdevkit/',
    ann_file='VOC2012/ImageSets/Main/trainval.txt',
    data_prefix=dict(sub_data_root='VOC2012/'),
)
