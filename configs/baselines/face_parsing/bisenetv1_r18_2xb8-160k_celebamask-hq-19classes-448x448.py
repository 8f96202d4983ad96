# The background as a class of its own, the usual way to report CelebAMask-HQ: not comparable with 18 classes.
_base_ = './bisenetv1_r18_2xb8-160k_celebamask-hq-448x448.py'

model = dict(
    decode_head=dict(num_classes=19),
    auxiliary_head=[dict(head, num_classes=19) for head in _base_.model.auxiliary_head],
)
train_dataloader = dict(dataset=dict(background='class'))
val_dataloader = dict(dataset=dict(background='class'))
test_dataloader = dict(dataset=dict(background='class'))
