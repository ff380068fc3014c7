"""The target's tables put together with initiators and a network that loses, repeats and reorders."""
