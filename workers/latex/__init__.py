"""The plug-in that typesets until nothing changes any more."""
