"""Runs one trace of steps against a sender, and records what is seen. Judges nothing."""
