"""A run: its plan, its tasks and their reports."""
