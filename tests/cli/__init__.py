"""The command line as people and programs use it: real processes, their output, their exit statuses."""
