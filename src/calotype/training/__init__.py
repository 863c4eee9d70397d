"""Training: one loop (`Trainer`), two recipes, and what they need: draws, moving averages, checkpoints, logs."""
