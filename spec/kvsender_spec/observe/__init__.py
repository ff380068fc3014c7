"""Judges histories: views of what is known, one checker a family of clauses, verdicts."""
