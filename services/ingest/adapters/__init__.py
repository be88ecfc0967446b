"""Parser libraries, the child process they run in, and the bus."""
