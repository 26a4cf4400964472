"""Services to try perfloop on."""
