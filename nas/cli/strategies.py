"""``nas strategies``."""

from nas.cli.options import Json
from nas.cli.output import print_json, print_table


def strategies(json: Json = False) -> None:
    """List the search strategies and what each is for."""
    from nas.search import list_strategies

    found = list_strategies()
    if json:
        print_json([{"name": name, "summary": summary} for name, summary in found.items()])
    else:
        print_table(("strategy", "what it is for"), list(found.items()))
