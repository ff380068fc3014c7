"""What was seen of one run: events, the history that holds them, and its NDJSON form."""
