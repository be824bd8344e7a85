"""From records to the paper: tables, figures, claims, the PDF, and the commands that check them. Imports no torch."""
