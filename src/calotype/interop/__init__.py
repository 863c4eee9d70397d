"""Other people's files: the original's checkpoints and configurations, and diffusers' folders."""
