"""The kit where it judges targets: it plays the initiators, well and badly."""
