# Timestep, step and layers of the closed form are chosen on the validation images. For images of another kind, such as
# noisy ones, give val_dataloader images of that kind.
select = dict(
    timesteps=['descending', 100, 300, 500, 999],
    steps=['ddpm', 'ddim'],
    layers=['all', 'first', r'layers\.0\.'],
    metric='accuracy/top1',
)
