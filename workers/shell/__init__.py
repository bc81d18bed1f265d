"""The plug-in that runs command lines."""
