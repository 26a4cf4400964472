"""What produces the figures of docs/benchmarks.md; run from the repository's root."""
