"""Ground floor: configuration, seeds, image files, atomic files. Imports nothing else of calotype."""
