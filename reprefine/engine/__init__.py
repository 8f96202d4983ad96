"""Runner, config check, checkpoints, exact resuming and checks of data and gradients; independent of the methods."""
