"""What a worker plug-in may rely on."""
