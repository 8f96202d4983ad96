"""Recipes of detection, segmentation, depth, face parsing and landmarks on toy data."""

from toy_recipes.recipe import Recipe, epochs, iterations, persistent_loaders

SEGMENTATION = dict(metric='mIoU', measure='mIoU (%)', chance='frequent_pixel')
# A frozen ViT with one block and random weights, on crops of 128x128.
PROBED_VIT = (
    'model.backbone.pretrained=False',
    'model.backbone.model_name=vit_tiny_patch16_224',
    'model.backbone.model_args.depth=1',
    'model.decode_head.in_channels=192',
)
SMALL_CROPS = (
    'model.data_preprocessor.size=(128,128)',
    'val_dataloader.dataset.pipeline.1.scale=(512,128)',
    'test_dataloader.dataset.pipeline.1.scale=(512,128)',
)
TRAIN_CROPS = (
    'train_dataloader.dataset.pipeline.2.scale=(512,128)',
    'train_dataloader.dataset.pipeline.3.crop_size=(128,128)',
)
# Heatmaps of landmarks in images of 128x128.
HEATMAP = ('input_size=(128,128)', 'heatmap_size=(32,32)', 'sigma=1.5')

RECIPES = {
    'coco': Recipe(
        'coco',
        'coco',
        'detection/retinanet_r50_fpn_1x_coco',
        'epoch_20.pth',
        metric='coco/bbox_mAP_50',
        measure='box AP at IoU 0.5 (%)',
        chance='no_detection',
        factor=100,
        train=persistent_loaders(
            *epochs(20),
            'train_dataloader.batch_size=4',
            'train_dataloader.dataset.pipeline.2.scale=(160,128)',
            # SGD with momentum detects nothing after 20 epochs.
            'optim_wrapper.optimizer.type=RMSprop',
            'optim_wrapper.optimizer.momentum=0.0',
            'optim_wrapper.optimizer.lr=0.0002',
            'param_scheduler.0.end=20',
            'param_scheduler.1.milestones=[15,18]',
        ),
        both=(
            'model.backbone.init_cfg=None',
            'model.backbone.depth=18',
            'model.neck.in_channels=[64,128,256,512]',
            'model.backbone.norm_eval=False',
            'model.backbone.frozen_stages=-1',
            'val_dataloader.dataset.pipeline.1.scale=(160,128)',
            'test_dataloader.dataset.pipeline.1.scale=(160,128)',
        ),
    ),
    'voc': Recipe(
        'voc',
        'VOCdevkit/VOC2012',
        'segmentation/vit-b-dinov2_linear_8xb2-40k_voc12-512x512',
        'iter_200.pth',
        train=persistent_loaders(
            *iterations(200, *TRAIN_CROPS, 'train_dataloader.batch_size=8'),
            'param_scheduler.0.end=21',
            'param_scheduler.1.end=201',
        ),
        both=(
            *PROBED_VIT,
            *SMALL_CROPS,
            'model.test_cfg.crop_size=(128,128)',
            'model.test_cfg.stride=(85,85)',
            'model.backbone.frozen=False',
            'model.backbone.stride=8',
        ),
        **SEGMENTATION,
    ),
    'ade20k': Recipe(
        'ade20k',
        'ade/ADEChallengeData2016',
        'segmentation/segformer_mit-b0_8xb2-160k_ade20k-512x512',
        'iter_150.pth',
        train=persistent_loaders(
            *iterations(150, *TRAIN_CROPS, 'train_dataloader.batch_size=8', 'optim_wrapper.optimizer.lr=0.0006'),
            'param_scheduler.0.end=20',
            'param_scheduler.1.begin=20',
            'param_scheduler.1.end=150',
            'model.backbone.init_cfg=None',
        ),
        both=SMALL_CROPS,
        **SEGMENTATION,
    ),
    'ade20k-linear': Recipe(
        'ade20k',
        'ade/ADEChallengeData2016',
        'segmentation/vit-b-dinov2_linear_8xb2-40k_ade20k-512x512',
        'iter_200.pth',
        train=persistent_loaders(
            *iterations(200, *TRAIN_CROPS, 'train_dataloader.batch_size=8'),
            'param_scheduler.0.end=21',
            'param_scheduler.1.end=201',
        ),
        both=(*PROBED_VIT, *SMALL_CROPS, 'model.test_cfg.crop_size=(128,128)', 'model.test_cfg.stride=(85,85)'),
        **SEGMENTATION,
    ),
    'nyu': Recipe(
        'nyu',
        'nyu',
        'depth/vit-b-dinov2_linear_8xb2-38k_nyu-416x544',
        'iter_150.pth',
        metric='d1',
        measure='depth within a factor of 1.25 (%)',
        chance='mean_depth',
        factor=100,
        train=persistent_loaders(
            *iterations(150),
            'model.decode_head.loss_decode.0.warmup=10',
            'param_scheduler.0.end=11',
            'param_scheduler.1.T_max=150',
            'param_scheduler.2.T_max=20',
            'param_scheduler.2.end=21',
            'param_scheduler.3.begin=20',
            'param_scheduler.3.T_max=130',
        ),
        both=PROBED_VIT,
    ),
    'celebamask-hq': Recipe(
        'celebamask-hq',
        'celebamask-hq',
        'face_parsing/bisenetv1_r18_2xb8-160k_celebamask-hq-448x448',
        'iter_200.pth',
        train=persistent_loaders(
            *iterations(200),
            'train_dataloader.batch_size=4',
            'train_dataloader.dataset.pipeline.3.scale=(128,128)',
            'train_dataloader.dataset.pipeline.3.ratio_range=(0.9,1.2)',
            'train_dataloader.dataset.pipeline.4.crop_size=(112,112)',
            'optim_wrapper.optimizer.lr=0.05',
            'param_scheduler.0.end=5',
            'param_scheduler.1.begin=5',
            'param_scheduler.1.end=200',
        ),
        both=(
            'model.data_preprocessor.size=(112,112)',
            'val_dataloader.dataset.pipeline.2.scale=(128,128)',
            'test_dataloader.dataset.pipeline.2.scale=(128,128)',
        ),
        preparation=('dataset_tools/prepare_celebamask_hq.py', '--allow-partial'),
        **SEGMENTATION,
    ),
    'wflw': Recipe(
        'wflw',
        'wflw',
        'landmarks/r50_2xb64-60e_wflw-256x256',
        'epoch_20.pth',
        metric='NME',
        measure='normalised mean error (%)',
        chance='mean_shape',
        factor=100,
        lower_is_better=True,
        train=persistent_loaders(
            *epochs(20),
            'train_dataloader.batch_size=8',
            'train_dataloader.dataset.pipeline.4.input_size=(128,128)',
            'optim_wrapper.optimizer.lr=0.002',
            'param_scheduler.0.end=10',
            'param_scheduler.1.milestones=[13,18]',
            'param_scheduler.1.end=20',
            *(f'train_dataloader.dataset.pipeline.5.encoder.{size}' for size in HEATMAP),
        ),
        both=(
            'model.backbone.depth=18',
            'model.head.in_channels=512',
            'val_dataloader.dataset.pipeline.2.input_size=(128,128)',
            'test_dataloader.dataset.pipeline.2.input_size=(128,128)',
            *(f'model.head.decoder.{size}' for size in HEATMAP),
        ),
    ),
}
