"""Recipes of classification, self-supervised learning and re-identification on toy data."""

from toy_recipes.recipe import Recipe, epochs, loaders, persistent_loaders

CLASSIFICATION = dict(metric='accuracy/top1', measure='top-1 accuracy (%)', chance='frequent_class')
# A ResNet-18 with a quarter of the width, and a schedule of 20 epochs.
NARROW_RESNET18 = ('model.backbone.base_channels=16', 'model.backbone.stem_channels=16', 'model.head.in_channels=128')
SHORT_SGD = (
    'train_dataloader.batch_size=32',
    'optim_wrapper.optimizer.lr=0.05',
    'param_scheduler.milestones=[14,18]',
)
# A ViT-S with two blocks on images of 128x64.
SMALL_VIT = (
    'model.backbone.img_size=(128,64)',
    'model.backbone.arch.num_layers=2',
    'model.backbone.stem_channels=32',
    'model.backbone.drop_path_rate=0.0',
    'val_dataloader.dataset.pipeline.1.scale=(64,128)',
    'test_dataloader.dataset.pipeline.1.scale=(64,128)',
)


def reid(toy_set: str, name: str, preparation: tuple[str, ...] = ()) -> Recipe:
    """Return the recipe of a ReID dataset; all have 36 training identities."""
    train = (
        'train_dataloader.dataset.pipeline.1.scale=(64,128)',
        'train_dataloader.dataset.pipeline.3.crop_size=(128,64)',
        'train_dataloader.dataset.pipeline.3.padding=5',
        'train_dataloader.dataset.pipeline.4.erase_prob=0.0',
        'train_dataloader.batch_size=32',
        'optim_wrapper.optimizer.lr=0.02',
        'param_scheduler.period=20',
        'param_scheduler.warmup=2',
        'load_from=None',
    )
    return Recipe(
        toy_set,
        toy_set,
        f'reid/vit-small_120e_{name}-256x128',
        'epoch_20.pth',
        metric='reid/mAP',
        measure='mAP (%)',
        chance='random_ranking',
        train=persistent_loaders(*epochs(20), *train),
        both=(*SMALL_VIT, 'model.head.num_classes=36'),
        preparation=preparation,
    )


RECIPES = {
    'cifar10': Recipe(
        'cifar10',
        'cifar10',
        'classification/resnet18-cifar_200e_cifar10',
        'epoch_20.pth',
        train=loaders(*epochs(20), *SHORT_SGD, 'custom_hooks.0.momentum=0.05'),
        both=NARROW_RESNET18,
        **CLASSIFICATION,
    ),
    'imagenet': Recipe(
        'imagenet',
        'imagenet',
        'classification/resnet18_8xb32-lbs_in1k',
        'epoch_20.pth',
        train=loaders(
            *epochs(20),
            *SHORT_SGD,
            'custom_hooks.0.momentum=0.05',
            'train_dataloader.dataset.pipeline.1.scale=96',
        ),
        both=(
            *NARROW_RESNET18,
            *(
                f'{name}_dataloader.dataset.pipeline.{option}'
                for name in ('val', 'test')
                for option in ('1.scale=110', '2.crop_size=96')
            ),
        ),
        **CLASSIFICATION,
    ),
    'imagenet100-moco': Recipe(
        'imagenet100',
        'imagenet',
        'selfsup/moco-v2_resnet50_8xb32-coslr-200e_in100',
        'epoch_20.pth',
        metric='loss',
        measure='contrastive loss',
        chance='queue_size',
        lower_is_better=True,
        train=(
            'train_cfg.max_epochs=20',
            'train_dataloader.num_workers=0',
            'train_dataloader.persistent_workers=False',
            'train_dataloader.batch_size=32',
            'train_dataloader.dataset.pipeline.1.transforms.0.0.scale=64',
            'param_scheduler.0.T_max=20',
            'model.backbone.base_channels=16',
            'model.backbone.stem_channels=16',
            'model.neck.in_channels=512',
        ),
        both=('model.queue_len=256',),
    ),
    'tiny-imagenet': Recipe(
        'tiny-imagenet',
        'tiny-imagenet-200',
        'classification/resnet18-cifar_200e_tiny-imagenet',
        'epoch_20.pth',
        train=loaders(*epochs(20), *SHORT_SGD),
        both=NARROW_RESNET18,
        **CLASSIFICATION,
    ),
    'market1501': reid('market1501', 'market1501'),
    'msmt17': reid('msmt17', 'msmt17'),
    'dukemtmc': reid('dukemtmc', 'dukemtmc'),
    'cuhk03': reid('cuhk03', 'cuhk03-labeled', ('dataset_tools/prepare_cuhk03.py',)),
}
