"""The model for every number of chunks and peers, proved by z3."""
