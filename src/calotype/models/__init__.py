"""Architectures and their frozen configurations: autoencoders, UNet, text transformer. Nothing else."""
