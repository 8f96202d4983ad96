# Loaders and metric of person re-identification. Beside it a leaf lists a dataset, which names its class, folder and number
# of identities, and the pipelines of a size, and puts them together.
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
train_dataloader = dict(
    batch_size=64,  # 16 identities with 4 images each
    num_workers=4,
    persistent_workers=True,
    dataset=dict(split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='reprefine.PKSampler', num_instances=4),
)
# One dataset of queries and gallery: the metric tells them apart.
val_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=True,
    dataset=dict(split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='reprefine.ReIDMetric')
test_evaluator = val_evaluator
# --tta averages the features of an image and its mirror image.
tta_model = dict(type='reprefine.ReIDTTAModel')
