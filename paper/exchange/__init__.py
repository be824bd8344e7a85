"""Records in the formats that other tools read: Every Eval Ever, and logs of Inspect. Imports no torch."""
