"""The search: a problem, the strategies behind ask and tell, and the front that comes out."""

from nas.search.loop import check_search, search
from nas.search.problem import Problem, Space
from nas.search.result import Choice, Scored, SearchResult
from nas.search.strategy import STRATEGIES, TRAINING, Strategy, get_strategy, list_strategies

__all__ = [
    "STRATEGIES",
    "TRAINING",
    "Choice",
    "Problem",
    "Scored",
    "SearchResult",
    "Space",
    "Strategy",
    "check_search",
    "get_strategy",
    "list_strategies",
    "search",
]
