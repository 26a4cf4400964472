"""Where a program's start goes: what it imports, what may be preloaded, what it could import later."""
