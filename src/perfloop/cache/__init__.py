"""The cache: two tiers, tags, a fence."""
