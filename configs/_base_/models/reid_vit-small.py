# ViT-S/16 behind the convolutional stem of TransReID-SSL. A file without the stem, as
# tools/model_converters/import_transreid_ssl.py says, also needs model.backbone.type=reprefine.PortraitViT.
# TransReID-SSL, pre-trained on LUPerson.
luperson = 'checkpoints/vit-small_luperson.pth'
load_from_command = f'python tools/model_converters/import_transreid_ssl.py vit_small_cfs_lup.pth {luperson}'

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
