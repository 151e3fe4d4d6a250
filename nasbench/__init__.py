"""Who is best: benchmarks, records, leaderboard."""

from nasbench.benchmark import Benchmark, get_benchmark, list_benchmarks

__all__ = ["Benchmark", "get_benchmark", "list_benchmarks"]
