"""Building blocks of the networks: normalisation, embedding of time, attention, residual blocks."""
