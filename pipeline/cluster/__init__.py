"""More than one machine: jobs of a Slurm cluster, workers on a Ray cluster."""
