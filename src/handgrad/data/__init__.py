"""From text files to batches: reading and checking, the token file, the split, seeded batches."""
