"""Faults, clocks and changed trainers that the benchmarks put into a real federation."""
