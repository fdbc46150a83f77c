"""Benchmarks beside nginx, and a load test that proves what it did; README.md says how to read their figures."""
