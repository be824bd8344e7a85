"""Writing artefacts: files of one table or figure, with provenance and citation."""
