"""How fast, how small and how cheap the service is, beside what a user would write instead.

`python -m tests.benchmarks` prints tables in Markdown. Nothing here is part of the tests: the figures depend on the
machine, and only those of one table can be compared.
"""
