"""The kernels that come with ComputeFarm."""
