"""The conformance kit: explores somebody's sender on a scripted transport and gives a verdict for each clause."""
