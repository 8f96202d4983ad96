# ViT-B/16 behind the convolutional stem of TransReID-SSL. A file without the stem, as
# tools/model_converters/import_transreid_ssl.py says, also needs model.backbone.type=reprefine.PortraitViT.
# TransReID-SSL, pre-trained on LUPerson.
luperson = 'checkpoints/vit-base_luperson.pth'
load_from_command = f'python tools/model_converters/import_transreid_ssl.py vit_base_ics_cfs_lup.pth {luperson}'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='reprefine.ConvStemViT',
        arch=dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
        img_size=(384, 128),
        patch_size=16,
        drop_path_rate=0.1,
    ),
    neck=None,
    head=dict(
        type='reprefine.BNNeckHead',
        num_classes=751,
        in_channels=768,
        loss=dict(type='CrossEntropyLoss'),
        triplet=dict(type='reprefine.BatchHardTripletLoss'),
        cal_acc=True,
    ),
)
