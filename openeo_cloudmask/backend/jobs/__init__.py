"""Batch jobs: queue, cluster, results, database."""
