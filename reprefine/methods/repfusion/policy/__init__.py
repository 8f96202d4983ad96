"""Selection of the timestep of each image: fixed and random rules, and a policy trained by REINFORCE."""
