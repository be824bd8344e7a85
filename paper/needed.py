"""Which files of a results folder the paper's text reads. The workflow asks before any job starts."""

NEEDED = (
    *("claims.json", "claims_time.json"),
    *(f"tables/{name}.csv" for name in ("main", "gains", "latency")),
    *(f"figures/{name}.pdf" for name in ("accuracy", "accuracy_latency", "training")),
)
OPTIONAL = ("tables/ablation.csv", "tables/alignment.csv", "figures/gates.pdf")
