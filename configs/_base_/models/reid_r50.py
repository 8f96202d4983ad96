# ResNet-50 with the last stride removed and a BN neck ("bag of tricks"), from random weights. To start from ImageNet:
#   --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=torchvision://resnet50
model = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=50, num_stages=4, out_indices=(3,), strides=(1, 2, 2, 1), style='pytorch'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='reprefine.BNNeckHead',
        num_classes=751,
        in_channels=2048,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        triplet=dict(type='reprefine.BatchHardTripletLoss', margin=0.3),
        feature='after',
        cal_acc=True,
    ),
)
