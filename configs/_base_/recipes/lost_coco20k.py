# Object discovery on the 20,000 images of COCO's train2014 that LOST lists; they are in train2017. Crowds do not count.
_base_ = './lost_voc07.py'

test_dataloader = dict(
    dataset=dict(
        type='reprefine.CocoImageList',
        image_list='coco_20k_filenames.txt',
        data_root='data/coco/',
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(_delete_=True, img='train2017/'),
    )
)
test_evaluator = dict(with_ignored=False)
