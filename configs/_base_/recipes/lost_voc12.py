# Object discovery on VOC2012 trainval.
_base_ = './lost_voc07.py'

test_dataloader = dict(
    dataset=dict(ann_file='VOC2012/ImageSets/Main/trainval.txt', data_prefix=dict(sub_data_root='VOC2012/'))
)
