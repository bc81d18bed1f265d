"""Worker plug-ins shipped with ComputeFarm; they import only `computefarm.worker_api`."""
