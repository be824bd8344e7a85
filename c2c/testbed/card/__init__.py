"""The score card: records of the test bed become gates, gains, bounds and evidence levels. Imports no torch."""
