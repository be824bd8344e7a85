"""The test bed: questions on which a message between models is possible, needed and bounded; see `docs/testbed.md`."""
