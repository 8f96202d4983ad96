# MAE ViT-B/16 (weights CC BY-NC).
backbone = dict(type='reprefine.TimmViT', model_name='vit_base_patch16_224.mae', pretrained=True)
# Size of its input where no protocol sets one, and the statistics it was trained with.
native = dict(
    size=512,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
