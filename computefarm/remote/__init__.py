"""Other machines by ssh: logging in, installing there, keeping services there alive."""
