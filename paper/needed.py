"""Which files of a results folder the paper's text reads. The workflow asks before any job starts."""

NEEDED = (
    *("claims.json", "claims_time.json"),
    *(f"tables/{name}.csv" for name in ("main", "gains")),
    *(f"figures/{name}.pdf" for name in ("gains", "accuracy", "training")),
)
OPTIONAL = (
    *(f"tables/{name}.csv" for name in ("latency", "ablation", "alignment")),
    *(f"figures/{name}.pdf" for name in ("accuracy_latency", "gates")),
)
