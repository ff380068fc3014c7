"""The model explored state by state, in Python: safety, and goals under weak fairness."""
