"""Attribution maps of classifiers: Grad-CAM, input gradients and occlusion, and their figure."""
