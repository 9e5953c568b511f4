"""What the benchmarks share: runs, statistics, tables, and scenes of a server with its nodes."""
