"""Plans a sweep from a configuration, runs its jobs and stores their results. Importing this package loads none of its modules."""
