"""Database configuration: the settings that perfloop tunes, their ranges, and what it refuses."""
