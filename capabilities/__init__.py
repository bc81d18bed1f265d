"""The capability files shipped with ComputeFarm; data, not code."""
