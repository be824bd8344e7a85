"""One pair, measured in one command: what differs, the tasks with all controls, and a report."""
