"""Keeps workers alive: starts them in order, watches them, restarts them within a budget, ends them."""
