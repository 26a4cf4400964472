"""The performance analyzer: checks that turn a Snapshot into Findings. Reads values, touches nothing."""
