"""``nas strategies``."""

from nas.cli.options import Json
from nas.cli.output import print_json, print_table


def strategies(json: Json = False) -> None:
    """List the search strategies: what each is for, and what it adds to the scoring of a candidate."""
    from nas.search import STRATEGIES

    found = [(name, entry.summary, entry.cost) for name, entry in STRATEGIES.entries.items()]
    if json:
        print_json([{"name": name, "summary": summary, "cost": cost} for name, summary, cost in found])
    else:
        print_table(("strategy", "what it is for", "adds a candidate"), found, numbers="  r")
