"""The tables as one Mealy machine, and a complete test suite from it."""
