# 784-64-10. The last layer belongs to the backbone, so that every layer is of the same kind.
model = dict(
    type='ImageClassifier',
    backbone=dict(type='reprefine.MLP', widths=(784, 64, 10)),
    head=dict(type='ClsHead', loss=dict(type='CrossEntropyLoss')),
)
