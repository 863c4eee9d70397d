"""One embedder per field: what it takes from a record, and the slot of the Conditioning that it fills."""
