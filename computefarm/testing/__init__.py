"""Doubles that ComputeFarm and its users test with."""
