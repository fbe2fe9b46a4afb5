"""The command line: starts a program on ranks with the mpirun that fits, watches it, and starts it again."""
