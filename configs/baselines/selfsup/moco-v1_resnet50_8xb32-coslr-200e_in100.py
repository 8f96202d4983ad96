_base_ = './moco-v1_resnet50_8xb32-coslr-200e_in1k.py'

# The lists are written by tools/dataset_tools/imagenet_subset.py.
classes = 'data/imagenet/meta/classes_100.txt'
train_dataloader = dict(dataset=dict(ann_file='meta/train_100.txt', classes=classes))
# A small dataset needs a key encoder that follows faster.
model = dict(momentum=0.01)
