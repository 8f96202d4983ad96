# DINOv2 ViT-B/14 with four register tokens.
backbone = dict(type='reprefine.TimmViT', model_name='vit_base_patch14_reg4_dinov2.lvd142m', pretrained=True)
# Size of its input where no protocol sets one, and the statistics it was trained with.
native = dict(
    size=518,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
