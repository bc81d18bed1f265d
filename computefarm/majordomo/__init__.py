"""The doit side: loader, runner, database, reporter, commands."""
