"""One file a family of clauses. A checker reads views and an event, never another checker."""
