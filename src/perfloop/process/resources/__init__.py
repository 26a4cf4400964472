"""What each worker may have of the machine: planned from what the host allows, taken before its work."""
