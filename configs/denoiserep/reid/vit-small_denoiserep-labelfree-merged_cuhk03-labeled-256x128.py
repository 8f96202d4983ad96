# Label-free DenoiseRep on the training images of four data sets at once. --data-root: their common folder.
_base_ = ['./vit-small_denoiserep-labelfree_cuhk03-labeled-256x128.py', '../../_base_/datasets/reid-merged.py']

train_dataloader = dict(dataset=dict(_base_.merged, _delete_=True, pipeline=_base_.train_pipeline))
