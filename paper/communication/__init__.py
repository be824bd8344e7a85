"""The test bed's score card: everything that follows from the records of its channels. Imports no torch."""
