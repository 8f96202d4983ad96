# The 20,000 images of COCO's train2014 that LOST lists; they are in train2017.
images = dict(
    type='reprefine.CocoImageList',
    image_list='coco_20k_filenames.txt',
    data_root='data/coco/',
    ann_file='annotations/instances_train2017.json',
    data_prefix=dict(img='train2017/'),
)
