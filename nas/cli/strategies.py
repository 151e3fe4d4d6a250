"""``nas strategies``."""

from nas.cli.options import Json
from nas.cli.output import print_json, print_table


def strategies(json: Json = False) -> None:
    """List the search strategies: what each is for, and what it adds to the scoring of a candidate."""
    from nas.search.strategy import COMPARED, STRATEGIES

    found = [(name, entry.summary, entry.cost) for name, entry in STRATEGIES.entries.items()]
    if json:
        print_json([{"name": name, "summary": summary, "cost": cost} for name, summary, cost in found])
    else:
        print_table(("strategy", "what it is for", "adds a candidate"), found, numbers="  r")
        print(f"how few candidates each needs, on published tables: {COMPARED}")
