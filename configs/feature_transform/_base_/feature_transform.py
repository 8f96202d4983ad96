# Feature transformation as published: one coefficient a step and side, vectors not scaled back to unit length.
feature_transform = dict(
    pos=dict(dist='beta', alpha=2.0, shift=1.0, granularity='batch'),
    neg=dict(dist='beta', alpha=1.6, granularity='batch'),
    post_norm=None,
)
custom_hooks = [dict(type='reprefine.ScoreStatsHook')]
