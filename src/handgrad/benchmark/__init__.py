"""How fast this machine can be, how fast the CPU engine is on it, and how fast others are."""
