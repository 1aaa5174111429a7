"""What the tasks of one run share and do."""
