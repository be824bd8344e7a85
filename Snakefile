# The workflow itself is workflow/Snakefile. Run it from here: snakemake --profile smoke
include: "workflow/Snakefile"


# An included file cannot choose what is made by default.
workflow.default_target = "all"
