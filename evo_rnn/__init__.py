"""The ground floor: what a network is, what it must learn, how well it does it, and where progress is written."""
