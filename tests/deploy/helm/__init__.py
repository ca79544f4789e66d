"""Tests of the chart helm/kstream: without a cluster here, on a real API server in test_cluster_*.py."""
