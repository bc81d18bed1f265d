"""The log window: cutelog, a process of its own, fed over loopback and never waited for."""
