"""Reports: text, JSON, JUnit XML and an HTML page, made from verdicts and histories and never from a run."""
