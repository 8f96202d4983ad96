# ViT-S/16 behind the convolutional stem of TransReID-SSL, from random weights. To start from those pre-trained on
# LUPerson, import their file with tools/model_converters/import_transreid_ssl.py and give the result by
#   --cfg-options load_from=FILE
# and for a file without the stem also model.backbone.type=reprefine.PortraitViT.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='reprefine.ConvStemViT',
        arch=dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
        img_size=(256, 128),
        patch_size=16,
        drop_path_rate=0.1,
    ),
    neck=None,
    head=dict(
        type='reprefine.BNNeckHead',
        num_classes=751,
        in_channels=384,
        loss=dict(type='CrossEntropyLoss'),
        triplet=dict(type='reprefine.BatchHardTripletLoss'),
        cal_acc=True,
    ),
)
