"""The parts of the benchmark scripts that are not a script: engines, child processes, gate, machine, floor, table."""
