"""Rules that ask for the same rows in other words, and the proposals that they make. Pure."""
