"""Who is best: benchmarks, records, leaderboard."""
