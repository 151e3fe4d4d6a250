"""``nas spaces``."""

from typing import Any

from nas.cli.options import Json
from nas.cli.output import print_json, print_table


def spaces(json: Json = False) -> None:
    """List the search spaces, their size, and whether a trained supernet ships for each."""
    from search_spaces import get_space, list_spaces
    from supernets import list_supernets

    shipped = list_supernets()
    rows: list[dict[str, Any]] = []
    for name, summary in list_spaces().items():
        space = get_space(name)
        rows.append({
            "name": name, "summary": summary, "networks": space.size, "resolutions": list(space.resolutions),
            "precisions": list(space.precisions), "supernet": name in shipped,
        })  # fmt: skip
    if json:
        print_json(rows)
        return
    table = [
        (
            row["name"], f"{row['networks']:.1e}", _pixels(row["resolutions"]),
            ", ".join(row["precisions"]), "ships" if row["supernet"] else "to be trained", row["summary"],
        )
        for row in rows
    ]  # fmt: skip
    print_table(("space", "networks", "pixels", "precisions", "supernet", "what it is"), table, numbers=" r")


def _pixels(resolutions: list[int]) -> str:
    """Return a few resolutions in full, many as their ends and number."""
    if len(resolutions) <= 4:
        return ", ".join(map(str, resolutions))
    return f"{resolutions[0]} to {resolutions[-1]} ({len(resolutions)})"
