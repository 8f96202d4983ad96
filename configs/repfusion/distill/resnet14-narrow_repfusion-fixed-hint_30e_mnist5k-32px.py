_base_ = './resnet14-narrow_repfusion-uniform-hint_30e_mnist5k-32px.py'

model = dict(
    timestep_source=dict(_delete_=True, type='reprefine.FixedTimesteps', timestep=0),
    eval_timesteps=(0,),
)
