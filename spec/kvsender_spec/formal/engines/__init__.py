"""The model in the languages of TLC and SPIN, and the programs run on it."""
