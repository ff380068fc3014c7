"""What is tried: the random walk, the shrinking of what broke, the complete suite, learning."""
