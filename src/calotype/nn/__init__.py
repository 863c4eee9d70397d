"""Building blocks of the networks: normalisation, timestep embedding, attention, residual blocks. No diffusion knowledge."""
