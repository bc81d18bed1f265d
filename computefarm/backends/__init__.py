"""Places majordomo can send tasks: the embedded farm, or a TaskManager over the network."""
