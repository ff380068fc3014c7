"""The composed model: handles, steps, effects and predicates, written once for every engine."""
