"""What trained Fusers do."""
